package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// exportInterval is how long a span may wait for its like.
	exportInterval = 500 * time.Millisecond
	// maxBatchBytes of frames' spans go in one request: collectors take 4 MB.
	maxBatchBytes = 1 << 20
	maxSDKSpans   = 20_000 // of sessions, utterances and calls that may wait
	exportRetry   = time.Second
)

// exporter sends the spans of frames, and those that the SDK hands it as an
// otlptrace.Client, from one goroutine. It keeps at what the collector does
// not take until it does, or until Stop gives up.
type exporter struct {
	client   otlptrace.Client
	resource *resourcepb.Resource
	scope    *commonpb.InstrumentationScope
	log      *slog.Logger

	mu     sync.Mutex
	opened []*Frames // since the last look
	sdk    []*tracepb.ResourceSpans
	sdkN   int

	active []*Frames // the exporting goroutine's
	batch  []byte

	sent    atomic.Int64 // spans
	lost    atomic.Int64 // spans that were taken and could not be sent
	givenUp atomic.Int64 // utterances, a stage each, for which there was no memory
	failing bool

	ctx    context.Context // of the sending
	giveUp context.CancelFunc
	stop   chan struct{}
	done   chan struct{}
}

var _ otlptrace.Client = (*exporter)(nil)

func newExporter(client otlptrace.Client, resource *resourcepb.Resource, scope string, log *slog.Logger) *exporter {
	e := &exporter{
		client: client, resource: resource, scope: &commonpb.InstrumentationScope{Name: scope}, log: log,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	e.ctx, e.giveUp = context.WithCancel(context.Background())
	return e
}

// Start begins the exporting.
func (e *exporter) Start(ctx context.Context) error {
	if err := e.client.Start(ctx); err != nil {
		return err
	}
	go e.run()
	return nil
}

// Stop sends what is left, until ctx is done, and counts what is lost.
func (e *exporter) Stop(ctx context.Context) error {
	close(e.stop)
	select {
	case <-e.done:
	case <-ctx.Done():
		e.giveUp()
		<-e.done
	}
	if lost := e.lost.Load(); lost > 0 {
		e.log.Error("spans were lost", "spans", lost, "cause", "the OTLP endpoint did not take them",
			"resolution", "see that OTEL_EXPORTER_OTLP_ENDPOINT names a running collector")
	}
	return e.client.Stop(context.WithoutCancel(ctx))
}

// UploadTraces takes spans of the SDK; they leave with the next batch.
func (e *exporter) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	n := countSpans(spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sdkN+n > maxSDKSpans {
		e.lost.Add(int64(n))
		return nil // counted; and the SDK could do no more than drop them
	}
	e.sdk = append(e.sdk, spans...)
	e.sdkN += n
	return nil
}

func countSpans(spans []*tracepb.ResourceSpans) (n int) {
	for _, r := range spans {
		for _, s := range r.GetScopeSpans() {
			n += len(s.GetSpans())
		}
	}
	return n
}

// open has the exporter read f until it is closed.
func (e *exporter) open(f *Frames) {
	e.mu.Lock()
	e.opened = append(e.opened, f)
	e.mu.Unlock()
}

func (e *exporter) run() {
	defer close(e.done)
	ticker := time.NewTicker(exportInterval)
	defer ticker.Stop()
	for stopping := false; !stopping; {
		select {
		case <-ticker.C:
		case <-e.stop:
			stopping = true
		}
		for more := true; more; {
			more = e.export()
		}
	}
}

// export sends one batch and reports whether there is more.
func (e *exporter) export() (more bool) {
	e.mu.Lock()
	spans, n := e.sdk, e.sdkN
	e.sdk, e.sdkN = nil, 0
	e.active = append(e.active, e.opened...)
	clear(e.opened)
	e.opened = e.opened[:0]
	e.mu.Unlock()

	frames, full := e.encode()
	if frames > 0 {
		spans = append(spans, e.frameSpans())
	}
	if len(spans) > 0 {
		e.send(spans, n+frames)
	}
	return full
}

// encode fills the batch with the spans of frames, and lets go of utterances
// that are over. It reports whether it stopped because the batch is full.
func (e *exporter) encode() (spans int, full bool) {
	e.batch = e.batch[:0]
	e.active = slices.DeleteFunc(e.active, func(f *Frames) bool {
		if full {
			return false
		}
		n, over := f.drain(&e.batch)
		spans += n
		full = len(e.batch) >= maxBatchBytes
		if over && f.givenUp.Load() {
			e.givenUp.Add(1)
			e.log.Warn("the frames of an utterance are not traced", "trace_id", f.traceHex,
				"cause", "the memory for spans is taken: the OTLP endpoint is away or too slow",
				"resolution", "see that OTEL_EXPORTER_OTLP_ENDPOINT is well, sample less (OTEL_TRACES_SAMPLER), or raise TRACE_BUFFER_BYTES")
		}
		return over
	})
	return spans, full
}

// drain appends the spans of the frames that are recorded, gives back the
// memory that is read, and reports whether nothing more will come. It stops
// early when the batch is full.
func (f *Frames) drain(batch *[]byte) (spans int, over bool) {
	closed, givenUp := f.closed.Load(), f.givenUp.Load() // before the records, so that none comes after it
	for f.reading != nil && len(*batch) < maxBatchBytes {
		n := f.reading.n.Load()
		if !givenUp {
			for ; f.read < n; f.read++ {
				*batch = f.appendSpan(*batch, &f.reading.records[f.read])
				spans++
			}
		}
		next := f.reading.next.Load()
		if next == nil && !closed && !givenUp {
			return spans, false
		}
		f.buffer.give(f.reading)
		f.reading, f.read = next, 0
	}
	return spans, f.reading == nil && (closed || givenUp)
}

// frameSpans wraps the batch. The spans are in it as bytes already, which
// protobuf keeps as they are: fields that it does not know.
func (e *exporter) frameSpans() *tracepb.ResourceSpans {
	scope := &tracepb.ScopeSpans{Scope: e.scope}
	scope.ProtoReflect().SetUnknown(e.batch)
	return &tracepb.ResourceSpans{Resource: e.resource, ScopeSpans: []*tracepb.ScopeSpans{scope}}
}

// send keeps at it until the collector has taken the spans, has refused them
// for good, or the exporter is told to give up.
func (e *exporter) send(spans []*tracepb.ResourceSpans, n int) {
	for {
		err := e.client.UploadTraces(e.ctx, spans)
		if err == nil {
			e.tell(nil)
			e.sent.Add(int64(n))
			return
		}
		e.tell(err)
		if e.ctx.Err() != nil || permanent(err) {
			e.lost.Add(int64(n))
			return
		}
		select {
		case <-time.After(exportRetry):
		case <-e.ctx.Done():
		}
	}
}

func (e *exporter) tell(err error) {
	switch {
	case err != nil && !e.failing:
		e.log.Warn("spans cannot be sent; they are kept and tried again", "cause", err.Error(),
			"resolution", "see that OTEL_EXPORTER_OTLP_ENDPOINT names a running collector, and that OTEL_EXPORTER_OTLP_PROTOCOL is what it speaks there (grpc on 4317, http/protobuf on 4318)")
	case err == nil && e.failing:
		e.log.Info("spans can be sent again")
	}
	e.failing = err != nil
}

// permanent reports whether the collector answered that it will never take it.
func permanent(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false
	}
	if _, network := errors.AsType[*url.Error](err); network {
		return false
	}
	s, answered := status.FromError(err)
	return !answered || !slices.Contains(temporary, s.Code())
}

// temporary are the statuses after which OTLP lets a client try again.
var temporary = []codes.Code{
	codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss, codes.ResourceExhausted,
}
