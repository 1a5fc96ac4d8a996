package clients

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/voxedge/voxedge/proto"
)

// What protobuf reads, the edge reads the same, in however many pieces it came;
// and what it does not, the edge does not either, but for text that is no text.
func FuzzAudioFrame(f *testing.F) {
	for _, frame := range []*proto.AudioFrame{
		{},
		{SessionId: "s", AudioData: []byte{1, 2, 3, 4}, SampleRate: 48000, FrameDurationMs: 20, SequenceNumber: 7, EmittedUnixNano: 1 << 60, Traceparent: "00-a-b-01"},
		{IsFinal: true, SampleRate: -1, EmittedUnixNano: -1, TextBefore: -1},
		{AudioData: []byte{1, 2}, TextBefore: 300},
	} {
		data, err := protobuf.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint16(3))
	}
	f.Add([]byte{0x0a, 0x05, 'a'}, uint16(0))
	f.Add([]byte{0x08, 0x01, 0x12, 0x01, 'x', 0x12, 0x00, 0x1a, 0x01, 'y'}, uint16(1)) // wrong kinds, and twice
	f.Add([]byte{0x0b, 0x0c, 0x7b, 0x08, 0x01, 0x7c}, uint16(1))                       // groups
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		at := int(cut) % (len(data) + 1)
		pieces := mem.BufferSlice{mem.SliceBuffer(data[:at]), mem.SliceBuffer(data[at:])}
		var got audioFrame
		err := frames.Unmarshal(pieces, &got)
		defer got.release()
		var want proto.AudioFrame
		wantErr := protobuf.Unmarshal(data, &want)
		switch {
		case err != nil && wantErr == nil:
			t.Fatalf("%x: %v, but protobuf takes it", data, err)
		case err != nil || wantErr != nil:
			return
		}
		if string(got.sessionID) != want.GetSessionId() || !bytes.Equal(got.audio, want.GetAudioData()) || got.sampleRate != want.GetSampleRate() ||
			got.final != want.GetIsFinal() || string(got.traceparent) != want.GetTraceparent() || got.emitted != want.GetEmittedUnixNano() ||
			got.textBefore != want.GetTextBefore() {
			t.Errorf("%x: got %+v, want %v", data, got, &want)
		}
	})
}

func BenchmarkAudioFrame(b *testing.B) {
	data, err := protobuf.Marshal(&proto.AudioFrame{SessionId: "6f0c3a8e-0000-0000-0000-000000000000", AudioData: make([]byte, 1920), SampleRate: 48000,
		FrameDurationMs: 20, SequenceNumber: 7, EmittedUnixNano: 1 << 60, Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	if err != nil {
		b.Fatal(err)
	}
	pieces := mem.BufferSlice{mem.SliceBuffer(data)}
	b.Run("in place", func(b *testing.B) {
		b.ReportAllocs()
		var frame audioFrame
		for b.Loop() {
			if err := frames.Unmarshal(pieces, &frame); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var frame proto.AudioFrame
			if err := frames.Unmarshal(pieces, &frame); err != nil {
				b.Fatal(err)
			}
		}
	})
}
