package telemetry

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// Workers are not trusted: whatever they send, the parent is a span of this
// trace as OpenTelemetry reads it, or none.
func FuzzParent(f *testing.F) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceID, err := trace.TraceIDFromHex(id)
	if err != nil {
		f.Fatal(err)
	}
	frames := newFrames(newBuffer(1<<20), Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{1}}), new(atomic.Bool))
	f.Add("00-" + id + "-00f067aa0ba902b7-01")
	f.Add("00-" + id + "-00F067AA0BA902B7-01")
	f.Add("00-" + strings.ToUpper(id) + "-00f067aa0ba902b7-01")
	f.Add("00-" + strings.Replace(id, "4", "5", 1) + "-00f067aa0ba902b7-01")
	f.Add("00-" + id + "-00f067aa0ba902b\x00-01")
	f.Add("00-" + id + "-0000000000000000-00")
	f.Add("00-" + id + "-00f067aa0ba902b7-00")
	f.Fuzz(func(t *testing.T, traceparent string) {
		parent := frames.Parent([]byte(traceparent))
		if parent == (SpanParent{}) {
			return
		}
		if want := "00-" + id + "-" + trace.SpanID(parent).String(); !strings.EqualFold(traceparent[:len(want)], want) {
			t.Errorf("%q gave %s", traceparent, trace.SpanID(parent))
		}
		read := trace.SpanContextFromContext(remote(context.Background(), strings.ToLower(traceparent)))
		if read.IsValid() && read.SpanID() != trace.SpanID(parent) {
			t.Errorf("%q gave %s, and OpenTelemetry %s", traceparent, trace.SpanID(parent), read.SpanID())
		}
		if read.IsValid() && !read.IsSampled() {
			t.Errorf("%q is a span that nobody sends", traceparent)
		}
	})
}
