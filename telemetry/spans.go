package telemetry

import (
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The spans of frames are encoded one by one into the bytes of OTLP's
// ScopeSpans.spans. What all spans of an utterance have in common is encoded by
// OTLP's own types; the numbers that differ are appended, for a message's
// encoding is the concatenation of its fields'. To build each span as a tree of
// OTLP's types took four times as long and twenty allocations.

// The numbers of OTLP's fields that are written here.
const (
	scopeSpansSpans = 2

	spanSpanID     = 2
	spanParentID   = 4
	spanStart      = 7
	spanEnd        = 8
	spanAttributes = 9
	spanEvents     = 11

	eventTime = 1
	eventName = 2

	keyValueKey   = 1
	keyValueValue = 2
	anyValueInt   = 3
)

var stageNames = [...]string{Synthesize: "frame.synthesize", Forward: "frame.forward", Play: "frame.play"}

// The attributes of the spans of frames.
const (
	attrSequence    = "voxedge.frame.sequence"
	attrDepth       = "voxedge.queue.depth"
	attrClockOffset = "voxedge.client.clock.offset_us"
	attrClockBound  = "voxedge.client.clock.error_us"
)

// sampledFlags are those of every span that is sent.
const sampledFlags = uint32(trace.FlagsSampled)

func (f *Frames) encodePrefix() []byte {
	prefix, err := proto.Marshal(&tracepb.Span{
		TraceId: f.trace[:], Name: stageNames[f.stage], Kind: tracepb.Span_SPAN_KIND_INTERNAL, Flags: sampledFlags,
	})
	if err != nil {
		panic(err) // these fields always encode
	}
	return prefix
}

// appendSpan appends the frame's span as one element of ScopeSpans.spans.
func (f *Frames) appendSpan(dst []byte, r *record) []byte {
	if f.prefix == nil {
		f.prefix = f.encodePrefix()
	}
	dst = protowire.AppendTag(dst, scopeSpansSpans, protowire.BytesType)
	lengthAt := len(dst)
	dst = append(dst, 0, 0) // the length, in two bytes however short it is
	dst = append(dst, f.prefix...)
	id := f.SpanID(r.sequence)
	dst = appendBytes(dst, spanSpanID, id[:])
	parent := r.parent
	if parent == (SpanParent{}) {
		parent = f.parent
	}
	dst = appendBytes(dst, spanParentID, parent[:])
	dst = appendTime(dst, spanStart, r.start)
	dst = appendTime(dst, spanEnd, r.end)
	dst = appendIntAttribute(dst, attrSequence, int64(r.sequence)) //nolint:gosec // a count of frames
	switch f.stage {
	case Forward:
		dst = appendIntAttribute(dst, attrDepth, r.extra)
		dst = appendEvent(dst, "received", r.start)
		dst = appendEvent(dst, "queued", r.queued)
		dst = appendEvent(dst, "written", r.end)
	case Play:
		dst = appendIntAttribute(dst, attrClockOffset, r.queued/1000)
		dst = appendIntAttribute(dst, attrClockBound, r.extra/1000)
	case Synthesize:
	}
	length := len(dst) - lengthAt - 2
	dst[lengthAt], dst[lengthAt+1] = byte(length)|0x80, byte(length>>7)
	return dst
}

func appendBytes(dst []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), v)
}

func appendTime(dst []byte, field protowire.Number, unixNano int64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), uint64(unixNano)) //nolint:gosec // as OTLP has it
}

func appendIntAttribute(dst []byte, key string, v int64) []byte {
	value := uint64(v) //nolint:gosec // as protobuf has it
	size := 1 + protowire.SizeVarint(value)
	dst = protowire.AppendTag(dst, spanAttributes, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(1+protowire.SizeBytes(len(key))+1+protowire.SizeBytes(size))) //nolint:gosec // a length
	dst = protowire.AppendTag(dst, keyValueKey, protowire.BytesType)
	dst = protowire.AppendString(dst, key)
	dst = protowire.AppendTag(dst, keyValueValue, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size)) //nolint:gosec // a length
	dst = protowire.AppendTag(dst, anyValueInt, protowire.VarintType)
	return protowire.AppendVarint(dst, value)
}

func appendEvent(dst []byte, name string, unixNano int64) []byte {
	dst = protowire.AppendTag(dst, spanEvents, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(1+8+1+protowire.SizeBytes(len(name)))) //nolint:gosec // a length
	dst = appendTime(dst, eventTime, unixNano)
	dst = protowire.AppendTag(dst, eventName, protowire.BytesType)
	return protowire.AppendString(dst, name)
}
