package telemetry

import (
	"bytes"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func requestOf(blocks ...[]byte) *coltracepb.ExportTraceServiceRequest {
	r := &tracepb.ResourceSpans{Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.name"}}}}
	for i, spans := range blocks {
		r.ScopeSpans = append(r.ScopeSpans, encoded(&commonpb.InstrumentationScope{Name: scopeName[:i]}, spans))
	}
	return &coltracepb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{r}}
}

// What goes to the socket in pieces is what protobuf makes of the request.
func TestRequestsAreEncodedAsProtobufEncodesThem(t *testing.T) {
	f := benchFrames()
	spans := func(n int) (b []byte) {
		for i := range n {
			b = f.appendSpan(b, &record{sequence: uint64(i), start: 1, end: 2})
		}
		return b
	}
	for _, request := range []*coltracepb.ExportTraceServiceRequest{
		{}, requestOf(), requestOf(nil), requestOf(spans(1)), requestOf(spans(3), spans(100)), requestOf(spans(5000), nil, spans(1)),
	} {
		lent := &loans{}
		pieces, err := newRequestCodec(lent).Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		got := pieces.Materialize()
		want, err := proto.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, which are not the %d of protobuf", len(got), len(want))
		}
		if long := len(want) > 10_000; long != lent.outstanding() {
			t.Errorf("of %d bytes, lent is %v", len(want), lent.outstanding())
		}
		pieces.Free()
		if lent.outstanding() {
			t.Error("what was given back is still lent")
		}
	}
}

// Wherever a request is cut, its pieces are whole spans, and make it up again.
func TestRequestsAreCutBetweenSpans(t *testing.T) {
	f := benchFrames()
	var spans []byte
	for i := range 20 {
		spans = f.appendSpan(spans, &record{sequence: uint64(i), start: 1, end: 2})
	}
	one := len(spans) / 20
	scopes := requestOf(spans, nil, spans[:one], spans).GetResourceSpans()[0].GetScopeSpans()
	for _, limit := range []int{0, 1, one, one + 1, 7 * one, 20 * one, 22 * one, 40*one - 1, 41 * one} {
		var got []byte
		pieces, n := 0, 0
		for rest := scopes; len(rest) > 0; pieces++ {
			var first []*tracepb.ScopeSpans
			var size int
			first, rest, size = cut(rest, limit)
			if size > max(limit, one) || size == 0 {
				t.Fatalf("limit %d: a piece has %d bytes", limit, size)
			}
			for _, s := range first {
				got = append(got, s.ProtoReflect().GetUnknown()...)
			}
			n += count(first)
		}
		if want := slices.Concat(spans, spans[:one], spans); !bytes.Equal(got, want) || n != 41 {
			t.Errorf("limit %d: %d pieces have %d spans in %d bytes, want 41 in %d", limit, pieces, n, len(got), len(want))
		}
	}
}

// While gRPC may read what was sent, nothing is written over it.
func TestABatchThatIsLentIsLeftAlone(t *testing.T) {
	b, lent := newBuffer(1<<20), &loans{}
	e := newExporter(nil, lent, nil, scopeName, b, slog.New(slog.DiscardHandler))
	f := newFrames(b, Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}), new(atomic.Bool))
	e.open(f)
	e.active = e.opened
	next := func(sequence uint64) []byte {
		for range 20 {
			f.Record(FrameTimes{Sequence: sequence, Start: 1, End: 2})
		}
		f.Publish()
		if n, _ := e.encode(); n != 20 {
			t.Fatalf("%d spans are encoded, want 20", n)
		}
		return e.batch
	}
	first := next(1)
	before := bytes.Clone(first)
	buffer := lent.lend(first)
	buffer.Ref() // as a stream that is being cancelled
	buffer.Free()
	second := next(2)
	if !bytes.Equal(first, before) {
		t.Fatal("a batch that is lent was written over")
	}
	buffer.Free()
	if third := next(3); &third[0] != &second[0] {
		t.Error("a batch that is free was not used again")
	}
}
