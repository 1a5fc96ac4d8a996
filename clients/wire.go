package clients

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is built on
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// audioFrame is a proto.AudioFrame read without a copy: its bytes lie in gRPC's
// own buffer, and are valid until the next is read into it or it is released.
type audioFrame struct {
	sessionID   []byte
	audio       []byte
	sampleRate  int32
	final       bool
	traceparent []byte
	emitted     int64 // Unix nanoseconds
	textBefore  int64 // characters of the stream's text, where a place is named

	buffer mem.Buffer
}

// frameCodec is gRPC's own codec, but for audioFrames.
type frameCodec struct{ encoding.CodecV2 }

var frames = frameCodec{encoding.GetCodecV2("proto")}

// Name leaves the content type as it is without a codec of one's own.
func (frameCodec) Name() string { return "" }

// Unmarshal takes a reference to data where v is an audioFrame.
func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	frame, ok := v.(*audioFrame)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	frame.release()
	if len(data) == 0 {
		return nil
	}
	buffer := data.MaterializeToBuffer(&buffers)
	err := frame.parse(buffer.ReadOnlyData())
	frame.buffer = buffer
	return err
}

// release gives the bytes back.
func (f *audioFrame) release() {
	buffer := f.buffer
	*f = audioFrame{}
	if buffer != nil {
		buffer.Free()
	}
}

// The fields of AudioFrame in proto/tts.proto.
const (
	fieldSessionID   protowire.Number = 1
	fieldAudio       protowire.Number = 2
	fieldSampleRate  protowire.Number = 3
	fieldFinal       protowire.Number = 6
	fieldTraceparent protowire.Number = 7
	fieldEmitted     protowire.Number = 8
	fieldTextBefore  protowire.Number = 9
)

var errNotAFrame = errors.New("it is not an AudioFrame")

// parse reads the fields that the edge needs; like any reader of protobuf it
// passes over the others, and takes the last where one comes twice.
func (f *audioFrame) parse(data []byte) error {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("%w: %w", errNotAFrame, protowire.ParseError(n))
		}
		data = data[n:]
		switch {
		case kind == protowire.BytesType && f.bytes(field) != nil:
			var v []byte
			if v, n = protowire.ConsumeBytes(data); n >= 0 {
				*f.bytes(field) = v
			}
		case kind == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(data); n >= 0 {
				f.number(field, v)
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return fmt.Errorf("%w: %w", errNotAFrame, protowire.ParseError(n))
		}
		data = data[n:]
	}
	return nil
}

func (f *audioFrame) bytes(field protowire.Number) *[]byte {
	switch field { //nolint:exhaustive // the other fields are passed over
	case fieldSessionID:
		return &f.sessionID
	case fieldAudio:
		return &f.audio
	case fieldTraceparent:
		return &f.traceparent
	}
	return nil
}

func (f *audioFrame) number(field protowire.Number, v uint64) {
	switch field { //nolint:exhaustive // the other fields are passed over
	case fieldSampleRate:
		f.sampleRate = int32(v) //nolint:gosec // as protobuf does
	case fieldFinal:
		f.final = v != 0
	case fieldEmitted:
		f.emitted = int64(v) //nolint:gosec // as protobuf does
	case fieldTextBefore:
		f.textBefore = int64(v) //nolint:gosec // as protobuf does
	}
}
