package session

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
)

func randomPCM() []byte {
	pcm := make([]byte, FrameBytes)
	for i := range pcm {
		pcm[i] = byte(rand.Uint32())
	}
	return pcm
}

// unframed is the message without WebSocket's header, which must be right.
func unframed(t *testing.T, data []byte, kind byte) (message []byte) {
	t.Helper()
	if len(data) > maxAudioMessage {
		t.Errorf("%d bytes, more than maxAudioMessage", len(data))
	}
	const final = 0x80
	if data[0] != final|kind || data[1] != 126 || int(binary.BigEndian.Uint16(data[2:])) != len(data)-4 {
		t.Fatalf("header % x before %d bytes", data[:4], len(data)-4)
	}
	return data[4:]
}

func TestAudioIsTheContractsJSON(t *testing.T) {
	for bit := range 64 { // of all lengths, and of samples that differ
		sequence, pcm := uint64(1)<<bit, randomPCM()
		data := unframed(t, numberAudio(encodeAudio(nil, pcm, false), sequence, false), 1)
		var m map[string]any
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if err := decoder.Decode(&m); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"type": "audio", "pcm": base64.StdEncoding.EncodeToString(pcm),
			"sample_rate": json.Number("48000"), "frame_ms": json.Number("20"), "sequence": json.Number(strconv.FormatUint(sequence, 10))}
		if !maps.Equal(m, want) {
			t.Errorf("%v, want %v", m, want)
		}
	}
}

func TestBinaryAudioIsTheContractsHeader(t *testing.T) {
	pcm := randomPCM()
	data := unframed(t, numberAudio(encodeAudio(nil, pcm, true), 77, true), 2)
	if len(data) != 16+FrameBytes || data[0] != 1 || data[1] != 0 ||
		binary.LittleEndian.Uint16(data[2:]) != 20 || binary.LittleEndian.Uint32(data[4:]) != 48000 ||
		binary.LittleEndian.Uint64(data[8:]) != 77 || !bytes.Equal(data[16:], pcm) {
		t.Errorf("header % x", data[:16])
	}
}

func TestEncodingAFrameDoesNotAllocate(t *testing.T) {
	pcm, buf := randomPCM(), make([]byte, 0, maxAudioMessage)
	for _, inBinary := range []bool{false, true} {
		if n := testing.AllocsPerRun(100, func() { numberAudio(encodeAudio(buf, pcm, inBinary), 1e9, inBinary) }); n != 0 {
			t.Errorf("binary %v: %v allocations", inBinary, n)
		}
	}
}

// BenchmarkEncodeAudio has base64 of the standard library as its reference.
func BenchmarkEncodeAudio(b *testing.B) {
	pcm, buf := randomPCM(), make([]byte, 0, maxAudioMessage)
	b.Run("JSON", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			numberAudio(encodeAudio(buf, pcm, false), 1e9, false)
		}
	})
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			numberAudio(encodeAudio(buf, pcm, true), 1e9, true)
		}
	})
	b.Run("base64", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			base64.StdEncoding.AppendEncode(buf, pcm)
		}
	})
}
