package telemetry

import (
	"encoding/binary"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The spans of frames are encoded into the bytes of OTLP's ScopeSpans.spans. All
// of an utterance at a stage are alike but for some numbers, so one is encoded,
// with those in as many bytes as they may ever need, and the others are copies
// of it with their numbers put in. To build each as a tree of OTLP's types takes
// fifty times as long and fourteen allocations (BenchmarkOTLPSpan).

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

// spanForm is the encoding of an utterance's spans at one stage, all of a length,
// and where in it stands what differs.
type spanForm struct {
	bytes                     []byte
	id, parent, start, end    int
	sequence                  int
	depth                     int // Forward
	received, queued, written int // Forward
	offset, bound             int // Play
}

func (f *Frames) newForm() *spanForm {
	body, err := proto.Marshal(&tracepb.Span{
		TraceId: f.trace[:], Name: stageNames[f.stage], Kind: tracepb.Span_SPAN_KIND_INTERNAL, Flags: sampledFlags,
	})
	if err != nil {
		panic(err) // these fields always encode
	}
	form := &spanForm{}
	body, form.id = appendID(body, spanSpanID)
	body, form.parent = appendID(body, spanParentID)
	body, form.start = appendTime(body, spanStart)
	body, form.end = appendTime(body, spanEnd)
	body, form.sequence = appendNumber(body, attrSequence, countBytes)
	switch f.stage {
	case Forward:
		body, form.depth = appendNumber(body, attrDepth, countBytes)
		body, form.received = appendEvent(body, "received")
		body, form.queued = appendEvent(body, "queued")
		body, form.written = appendEvent(body, "written")
	case Play:
		body, form.offset = appendNumber(body, attrClockOffset, numberBytes)
		body, form.bound = appendNumber(body, attrClockBound, numberBytes)
	case Synthesize:
	}
	form.bytes = protowire.AppendTag(nil, scopeSpansSpans, protowire.BytesType)
	form.bytes = protowire.AppendVarint(form.bytes, uint64(len(body)))
	header := len(form.bytes)
	for _, at := range []*int{&form.id, &form.parent, &form.start, &form.end, &form.sequence, &form.depth, &form.received, &form.queued, &form.written, &form.offset, &form.bound} {
		*at += header
	}
	form.bytes = append(form.bytes, body...)
	return form
}

// appendSpan appends the frame's span as one element of ScopeSpans.spans.
func (f *Frames) appendSpan(dst []byte, r *record) []byte {
	if f.form == nil {
		f.form = f.newForm()
	}
	form := f.form
	dst = append(dst, form.bytes...)
	span := dst[len(dst)-len(form.bytes):]
	id, parent := f.SpanID(r.sequence), r.parent
	if parent == (SpanParent{}) {
		parent = f.parent
	}
	copy(span[form.id:], id[:])
	copy(span[form.parent:], parent[:])
	putTime(span[form.start:], r.start)
	putTime(span[form.end:], r.end)
	putNumber(span[form.sequence:][:countBytes], int64(r.sequence)) //nolint:gosec // a count of frames
	switch f.stage {
	case Forward:
		putNumber(span[form.depth:][:countBytes], r.extra)
		putTime(span[form.received:], r.start)
		putTime(span[form.queued:], r.queued)
		putTime(span[form.written:], r.end)
	case Play:
		putNumber(span[form.offset:][:numberBytes], r.queued/1000)
		putNumber(span[form.bound:][:numberBytes], r.extra/1000)
	case Synthesize:
	}
	return dst
}

// The append functions leave a place, and return where it is.

func appendID(dst []byte, field protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	dst = protowire.AppendBytes(dst, make([]byte, 8))
	return dst, len(dst) - 8
}

func appendTime(dst []byte, field protowire.Number) ([]byte, int) {
	dst = protowire.AppendTag(dst, field, protowire.Fixed64Type)
	dst = protowire.AppendFixed64(dst, 0)
	return dst, len(dst) - 8
}

// numberBytes is how long the longest number is encoded, and countBytes one of
// frames, below 2^35. Shorter ones are filled up, which is protobuf all the same.
const (
	numberBytes = 10
	countBytes  = 5
)

func appendNumber(dst []byte, key string, room int) ([]byte, int) {
	value := append(protowire.AppendTag(nil, anyValueInt, protowire.VarintType), make([]byte, room)...)
	attribute := protowire.AppendString(protowire.AppendTag(nil, keyValueKey, protowire.BytesType), key)
	attribute = protowire.AppendBytes(protowire.AppendTag(attribute, keyValueValue, protowire.BytesType), value)
	dst = protowire.AppendBytes(protowire.AppendTag(dst, spanAttributes, protowire.BytesType), attribute)
	return dst, len(dst) - room
}

func appendEvent(dst []byte, name string) ([]byte, int) {
	event := protowire.AppendString(protowire.AppendTag(nil, eventName, protowire.BytesType), name)
	event, _ = appendTime(event, eventTime)
	dst = protowire.AppendBytes(protowire.AppendTag(dst, spanEvents, protowire.BytesType), event)
	return dst, len(dst) - 8
}

func putTime(dst []byte, unixNano int64) {
	binary.LittleEndian.PutUint64(dst, uint64(unixNano)) //nolint:gosec // as OTLP has it
}

func putNumber(dst []byte, v int64) {
	rest := uint64(v) //nolint:gosec // as protobuf has it
	last := len(dst) - 1
	for i := range last {
		dst[i] = byte(rest) | 0x80
		rest >>= 7
	}
	dst[last] = byte(rest) & 0x7f
}
