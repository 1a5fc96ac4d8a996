package telemetry

import (
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func benchFrames() *Frames {
	return newFrames(newBuffer(1<<20), Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}), new(atomic.Bool))
}

// BenchmarkRecord is what a traced frame costs on its way.
func BenchmarkRecord(b *testing.B) {
	f := benchFrames()
	parent := f.Traceparent(7)
	received := time.Now().UnixNano()
	b.ReportAllocs()
	for b.Loop() {
		if f.at == chunkRecords {
			f.at = 0 // as if it had been read
		}
		now := time.Now().UnixNano()
		f.Record(FrameTimes{Sequence: 1, Start: received, Queued: received, End: now, Depth: 1, Parent: f.Parent([]byte(parent))})
	}
}

// BenchmarkAppendSpan is what it costs behind, on the exporter's time.
func BenchmarkAppendSpan(b *testing.B) {
	f := benchFrames()
	now := time.Now().UnixNano()
	r := &record{sequence: 1234, start: now, queued: now, end: now + 1, parent: SpanParent{1}, extra: 12}
	batch := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		batch = f.appendSpan(batch[:0], r)
	}
	b.SetBytes(int64(len(batch)))
}

// BenchmarkOTLPSpan is the reference for it: the same span as OTLP's own types.
func BenchmarkOTLPSpan(b *testing.B) {
	f := benchFrames()
	now := uint64(time.Now().UnixNano())
	number := func(key string, v int64) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v}}}
	}
	b.ReportAllocs()
	for b.Loop() {
		id := f.SpanID(1234)
		span := &tracepb.Span{
			TraceId: f.trace[:], SpanId: id[:], ParentSpanId: f.parent[:], Name: stageNames[Forward], Kind: tracepb.Span_SPAN_KIND_INTERNAL,
			StartTimeUnixNano: now, EndTimeUnixNano: now, Attributes: []*commonpb.KeyValue{number(attrSequence, 1234), number(attrDepth, 12)},
			Events: []*tracepb.Span_Event{{TimeUnixNano: now, Name: "received"}, {TimeUnixNano: now, Name: "queued"}, {TimeUnixNano: now, Name: "written"}},
		}
		if _, err := proto.Marshal(span); err != nil {
			b.Fatal(err)
		}
	}
}
