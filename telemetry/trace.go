package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
)

const scopeName = "github.com/voxedge/voxedge"

// Tracer makes the traces of one process: a span for each session's opening, a
// trace for each utterance, a span for each frame. A nil Tracer makes none.
type Tracer struct {
	sampled  *sdk.TracerProvider // as OTEL_TRACES_SAMPLER decides
	always   *sdk.TracerProvider // as a client has decided
	exporter *exporter
	buffer   *buffer
}

// traceClient counts in lent the spans that it may still read.
func traceClient(lent *loans) otlptrace.Client {
	if overGRPC("TRACES") {
		byReference := grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newRequestCodec(lent)))
		return otlptracegrpc.NewClient(otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}), otlptracegrpc.WithDialOption(byReference))
	}
	return otlptracehttp.NewClient(otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
}

// NewTracer returns a tracer that exports by OTLP as the OTEL_* variables say,
// and holds at most so many bytes of what could not be exported yet. Shutdown
// ends it.
func NewTracer(service string, bufferBytes int, log *slog.Logger) (*Tracer, error) {
	lent := &loans{}
	return newTracer(service, bufferBytes, traceClient(lent), lent, log)
}

func newTracer(service string, bufferBytes int, client otlptrace.Client, lent *loans, log *slog.Logger) (*Tracer, error) {
	about, err := about(service)
	if err != nil {
		return nil, err
	}
	b := newBuffer(bufferBytes)
	e := newExporter(client, lent, resourceProto(about), scopeName, b, log)
	exporting, err := otlptrace.New(context.Background(), e)
	if err != nil {
		return nil, err
	}
	// The SDK's own batching would drop what does not fit its queue; the exporter
	// only takes note, so that nothing waits.
	handing := sdk.WithSpanProcessor(sdk.NewSimpleSpanProcessor(exporting))
	return &Tracer{
		sampled:  sdk.NewTracerProvider(handing, sdk.WithResource(about)),
		always:   sdk.NewTracerProvider(handing, sdk.WithResource(about), sdk.WithSampler(sdk.AlwaysSample())),
		exporter: e, buffer: b,
	}, nil
}

// about describes the process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
// have the last word.
func about(service string) (*resource.Resource, error) {
	r, err := resource.New(context.Background(), resource.WithAttributes(semconv.ServiceName(service)), resource.WithHost(),
		resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if errors.Is(err, resource.ErrPartialResource) {
		err = nil
	}
	return r, err
}

func resourceProto(r *resource.Resource) *resourcepb.Resource {
	out := &resourcepb.Resource{}
	for _, a := range r.Attributes() {
		value := &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: a.Value.String()}}
		if a.Value.Type() == attribute.INT64 {
			value = &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: a.Value.AsInt64()}}
		}
		out.Attributes = append(out.Attributes, &commonpb.KeyValue{Key: string(a.Key), Value: value})
	}
	return out
}

// Provider returns what instrumentation libraries make spans with, or nil.
func (t *Tracer) Provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t.sampled
}

// Shutdown sends what is left, until ctx is done.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.exporter.Stop(ctx)
}

// Exported returns how many spans the collector has taken.
func (t *Tracer) Exported() int64 { return t.exporter.sent.Load() }

// Lost returns how many spans the collector refused or were left at the end.
func (t *Tracer) Lost() int64 { return t.exporter.lost.Load() }

// GivenUp returns how many utterances were not traced for want of memory.
func (t *Tracer) GivenUp() int64 { return t.buffer.givenUp.Load() }

// Buffered returns how many bytes are taken by spans that wait to be sent.
func (t *Tracer) Buffered() int64 { return t.buffer.used.Load() }

// Frames returns what takes down a stage of the frames of the span in ctx, or
// nil where it is not sampled.
func (t *Tracer) Frames(ctx context.Context, stage Stage) *Frames {
	return t.frames(ctx, stage, new(atomic.Bool))
}

func (t *Tracer) frames(ctx context.Context, stage Stage, counted *atomic.Bool) *Frames {
	parent := trace.SpanContextFromContext(ctx)
	if t == nil || !parent.IsSampled() {
		return nil
	}
	// A worker that is killed never sends the span of its call, so what it has sent
	// of frames hangs at the edge's, which knows of the end.
	if call, ok := trace.SpanFromContext(ctx).(sdk.ReadOnlySpan); ok && stage == Synthesize && call.Parent().IsValid() {
		parent = call.Parent()
	}
	f := newFrames(t.buffer, stage, parent, counted)
	t.exporter.open(f)
	return f
}

// SessionStart is what is known when a session opens.
type SessionStart struct {
	ID          string
	Traceparent string // W3C context that the client gave, or empty
	Remote      string
	Client      string // who it is, or empty
	Model       string
	Pacing      string
	Resumed     bool
}

// SessionTrace is the span of a session's opening, to which its utterances are
// linked. A nil SessionTrace is of a session that is not traced.
type SessionTrace struct {
	tracer  *Tracer
	opening trace.Span
	// utterances makes the spans of those that come with no context of their own;
	// nil: none. Where the client gave the session one, its decision holds for them
	// too, though each is a trace of its own.
	utterances trace.Tracer
}

var traceContext propagation.TraceContext

// remote returns a context with the span that a W3C traceparent names.
func remote(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return traceContext.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Traceparent returns the W3C context of the span in ctx, or nothing.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	traceContext.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Session begins the opening of a session.
func (t *Tracer) Session(s SessionStart) *SessionTrace {
	if t == nil {
		return nil
	}
	ctx := remote(context.Background(), s.Traceparent)
	given := trace.SpanContextFromContext(ctx).IsValid()
	attrs := []attribute.KeyValue{semconv.SessionID(s.ID), semconv.ClientAddress(s.Remote),
		attribute.String("voxedge.pacing", s.Pacing), attribute.Bool("voxedge.session.resumed", s.Resumed)}
	if s.Client != "" {
		attrs = append(attrs, attribute.String("voxedge.client", s.Client))
	}
	if s.Model != "" {
		attrs = append(attrs, attribute.String("voxedge.model", s.Model))
	}
	_, span := t.sampled.Tracer(scopeName).Start(ctx, "session", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attrs...))
	out := &SessionTrace{tracer: t, opening: span, utterances: t.sampled.Tracer(scopeName)}
	switch {
	case given && span.SpanContext().IsSampled():
		out.utterances = t.always.Tracer(scopeName)
	case given:
		out.utterances = nil
	}
	return out
}

// Opened ends the span: the client has been greeted.
func (s *SessionTrace) Opened() {
	if s != nil {
		s.opening.End()
	}
}

// Context returns parent with the span of the session's opening.
func (s *SessionTrace) Context(parent context.Context) context.Context {
	if s == nil {
		return parent
	}
	return trace.ContextWithSpan(parent, s.opening)
}

// UtteranceStart is what is known when an utterance begins.
type UtteranceStart struct {
	Session     string
	Number      uint64
	Accepted    time.Time
	Traceparent string // W3C context that the client gave with its text, or empty
	Earlier     string // W3C context of what was spoken of it before the session was resumed, or empty
}

// UtteranceTrace is the root of an utterance's trace. A nil UtteranceTrace is
// of one that is not traced.
type UtteranceTrace struct {
	span   trace.Span
	frames *Frames
	buffer *buffer // nil when it is not sampled
}

// Utterance begins the trace of an utterance: one of its own, or a part of the
// one that the client gave with the text, or of what was spoken of it before.
// It is not sampled when there is no memory for it, by this edge or the worker.
func (s *SessionTrace) Utterance(u UtteranceStart) *UtteranceTrace {
	if s == nil {
		return nil
	}
	parent, tracer := remote(context.Background(), u.Traceparent), s.utterances
	if u.Earlier != "" {
		parent = remote(parent, u.Earlier)
	}
	if trace.SpanContextFromContext(parent).IsValid() {
		tracer = s.tracer.sampled.Tracer(scopeName) // this context has its own decision
	}
	if tracer == nil {
		return nil
	}
	ctx, span := tracer.Start(parent, "utterance",
		trace.WithTimestamp(u.Accepted), trace.WithSpanKind(trace.SpanKindServer), trace.WithLinks(trace.Link{SpanContext: s.opening.SpanContext()}),
		trace.WithAttributes(semconv.SessionID(u.Session), attribute.Int64("voxedge.utterance.number", int64(u.Number)), //nolint:gosec // a count
			attribute.Bool("voxedge.utterance.resumed", u.Earlier != "")))
	buffer := s.tracer.buffer
	switch {
	case !span.SpanContext().IsSampled():
		return &UtteranceTrace{span: span}
	case !buffer.reserve(utteranceBytes, false):
		buffer.givenUp.Add(1)
		unsampled := span.SpanContext().WithTraceFlags(0)
		return &UtteranceTrace{span: trace.SpanFromContext(trace.ContextWithSpanContext(ctx, unsampled))}
	}
	return &UtteranceTrace{span: span, frames: s.tracer.Frames(ctx, Forward), buffer: buffer}
}

// Spans takes down its frames' way through the edge; it is nil when the
// utterance is not sampled.
func (u *UtteranceTrace) Spans() *Frames {
	if u == nil {
		return nil
	}
	return u.frames
}

// Context returns parent with the utterance's span, sampled or not.
func (u *UtteranceTrace) Context(parent context.Context) context.Context {
	if u == nil {
		return parent
	}
	return trace.ContextWithSpan(parent, u.span)
}

// Traceparent returns the W3C context of the utterance's span.
func (u *UtteranceTrace) Traceparent() string {
	if u == nil {
		return ""
	}
	return Traceparent(u.Context(context.Background()))
}

// TraceID returns the trace's id as Jaeger shows it, or nothing when it is not
// sampled.
func (u *UtteranceTrace) TraceID() string {
	if u == nil || !u.span.SpanContext().IsSampled() {
		return ""
	}
	return u.span.SpanContext().TraceID().String()
}

// Event takes down that something happened to the utterance as a whole.
func (u *UtteranceTrace) Event(name string) {
	if u != nil {
		u.span.AddEvent(name)
	}
}

// UtteranceEnd is what has become of an utterance.
type UtteranceEnd struct {
	Reason        string
	Worker, Model string
	Characters    int
	Frames        uint64
	Underruns     int
	FirstAudio    time.Duration // 0: there was none
	WorstLateness time.Duration
	Err           error // why it failed
}

// End ends the utterance's span.
func (u *UtteranceTrace) End(e UtteranceEnd) {
	if u == nil {
		return
	}
	u.frames.Close()
	u.span.SetAttributes(
		attribute.String("voxedge.utterance.reason", e.Reason),
		attribute.String("voxedge.worker", e.Worker),
		attribute.String("voxedge.model", e.Model),
		attribute.Int("voxedge.utterance.characters", e.Characters),
		attribute.Int64("voxedge.utterance.frames", int64(e.Frames)), //nolint:gosec // a count
		attribute.Int("voxedge.utterance.underruns", e.Underruns),
		attribute.Float64("voxedge.utterance.first_audio_ms", milliseconds(e.FirstAudio)),
		attribute.Float64("voxedge.utterance.worst_lateness_ms", milliseconds(e.WorstLateness)),
	)
	if u.frames.GivenUp() {
		u.span.SetAttributes(attribute.Bool("voxedge.trace.frames_given_up", true))
	}
	if e.Err != nil {
		u.span.SetStatus(otelcodes.Error, e.Err.Error())
	}
	if u.buffer != nil {
		u.buffer.release(utteranceBytes)
	}
	u.span.End()
}

// Play returns what takes down when the client heard the utterance's frames.
// The caller closes it.
func (s *SessionTrace) Play(u *UtteranceTrace) *Frames {
	if s == nil || u == nil || u.frames == nil || u.frames.GivenUp() {
		return nil
	}
	return s.tracer.frames(u.Context(context.Background()), Play, u.frames.counted)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
