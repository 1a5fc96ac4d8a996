package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// exportInterval is how long a span may wait for its like. With the half second
	// that frames wait to be noted, an edge that is killed loses less than one.
	exportInterval = 400 * time.Millisecond
	// maxBatchBytes of frames' spans go in one request: collectors take 4 MB.
	maxBatchBytes = 1 << 20
	// maxRequestBytes is more than there ever is for one, and minRequestBytes what a
	// request is cut down to where larger ones are not taken.
	maxRequestBytes = 3 << 20
	minRequestBytes = 16 << 10
	exportRetry     = time.Second
	// complainEvery keeps the log readable while the collector is away.
	complainEvery = 10 * time.Second
)

// exporter sends the spans of frames, and those that the SDK hands it as an
// otlptrace.Client, from one goroutine. It keeps at what the collector does
// not take until it does, or until Stop gives up.
type exporter struct {
	client   otlptrace.Client
	resource *resourcepb.Resource
	scope    *commonpb.InstrumentationScope
	buffer   *buffer
	log      *slog.Logger

	mu      sync.Mutex
	opened  []*Frames         // since the last look
	blocks  []*block          // in the order they were begun
	filling map[string]*block // by scope, the one that takes more

	active      []*Frames // the exporting goroutine's, as is all that follows
	batch       []byte
	lent        *loans // of batches and blocks, by the client
	limit       int    // bytes of spans in a request
	failing     bool
	why         string    // spans were lost, the last time
	complained  time.Time // last, and of so many:
	given, gone int64     // utterances and spans

	sent atomic.Int64 // spans
	lost atomic.Int64 // spans that were taken and could not be sent, or kept

	ctx    context.Context // of the sending
	giveUp context.CancelFunc
	stop   chan struct{}
	done   chan struct{}
}

var _ otlptrace.Client = (*exporter)(nil)

func newExporter(client otlptrace.Client, lent *loans, resource *resourcepb.Resource, scope string, b *buffer, log *slog.Logger) *exporter {
	e := &exporter{
		client: client, lent: lent, limit: maxRequestBytes, resource: resource, scope: &commonpb.InstrumentationScope{Name: scope}, buffer: b, log: log,
		filling: map[string]*block{},
		stop:    make(chan struct{}), done: make(chan struct{}),
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
	e.complain()
	return e.client.Stop(context.WithoutCancel(ctx))
}

// UploadTraces takes spans of the SDK; they leave with the next batch.
func (e *exporter) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range spans {
		for _, scope := range r.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if !e.keep(scope.GetScope(), span) {
					e.lost.Add(1) // the SDK could do no more than drop it
				}
			}
		}
	}
	return nil
}

// keep encodes the span, which as bytes takes the least memory, into the block
// of its scope. The lock is held.
func (e *exporter) keep(scope *commonpb.InstrumentationScope, span *tracepb.Span) bool {
	size := proto.Size(span)
	need := 1 + protowire.SizeBytes(size)
	b := e.filling[scope.GetName()]
	if b == nil || cap(b.spans)-len(b.spans) < need {
		room := max(need, blockBytes)
		if !e.buffer.reserve(int64(room), true) {
			return false
		}
		b = &block{scope: scope, spans: make([]byte, 0, room)}
		e.blocks = append(e.blocks, b)
		e.filling[scope.GetName()] = b
	}
	spans := protowire.AppendTag(b.spans, scopeSpansSpans, protowire.BytesType)
	spans = protowire.AppendVarint(spans, uint64(size)) //nolint:gosec // a length
	spans, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(spans, span)
	if err != nil {
		return false
	}
	b.spans, b.n = spans, b.n+1
	return true
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
		if time.Since(e.complained) > complainEvery {
			e.complain()
		}
	}
}

// export sends one batch and reports whether there is more.
func (e *exporter) export() (more bool) {
	e.mu.Lock()
	first := e.blocks[:min(len(e.blocks), maxBatchBytes/blockBytes)]
	e.blocks = slices.Clone(e.blocks[len(first):])
	maps.DeleteFunc(e.filling, func(_ string, b *block) bool { return slices.Contains(first, b) })
	e.active = append(e.active, e.opened...)
	clear(e.opened)
	e.opened = e.opened[:0]
	e.mu.Unlock()

	n, full := e.encode()
	full = full || len(first) == maxBatchBytes/blockBytes
	var scopes []*tracepb.ScopeSpans
	if n > 0 {
		scopes = append(scopes, encoded(e.scope, e.batch))
	}
	held := 0
	for _, b := range first {
		scopes = append(scopes, encoded(b.scope, b.spans))
		n, held = n+b.n, held+cap(b.spans)
	}
	e.send(scopes, n)
	e.buffer.release(int64(held))
	return full
}

// encode fills the batch with the spans of frames, and lets go of utterances
// that are over. It reports whether it stopped because the batch is full.
func (e *exporter) encode() (spans int, full bool) {
	e.batch = e.batch[:0]
	if e.lent.outstanding() { // a request was given up, or answered before it was read
		e.batch = make([]byte, 0, cap(e.batch))
	}
	e.active = slices.DeleteFunc(e.active, func(f *Frames) bool {
		if full {
			return false
		}
		n, over := f.drain(&e.batch)
		spans += n
		full = len(e.batch) >= maxBatchBytes
		return over
	})
	return spans, full
}

// drain appends the spans of the frames that are published, gives back the
// memory that is read, and reports whether nothing more will come. It stops
// early when the batch is full.
func (f *Frames) drain(batch *[]byte) (spans int, over bool) {
	closed, givenUp := f.closed.Load(), f.givenUp.Load() // before the records, so that none comes after it
	for f.reading != nil && len(*batch) < maxBatchBytes {
		next := f.reading.next.Load() // before the count, which is all of a chunk that has a next
		published := int(f.reading.published.Load())
		for ; f.read < published && !givenUp; f.read++ {
			*batch = f.appendSpan(*batch, &f.reading.records[f.read])
			spans++
		}
		if next == nil && !closed && !givenUp {
			return spans, false
		}
		f.buffer.give(f.reading)
		f.reading, f.read = next, 0
	}
	return spans, f.reading == nil && (closed || givenUp)
}

// send keeps at it until the collector has taken the n spans, has refused them
// for good, or the exporter is told to give up.
func (e *exporter) send(scopes []*tracepb.ScopeSpans, n int) {
	for n > 0 {
		first, rest, size := cut(scopes, e.limit)
		asked := n
		if len(rest) > 0 {
			asked = count(first)
		}
		err := e.client.UploadTraces(e.ctx, []*tracepb.ResourceSpans{{Resource: e.resource, ScopeSpans: first}})
		rejected, partly := partlyRejected(err)
		switch {
		case err == nil:
			e.tell(nil)
			e.sent.Add(int64(asked))
			e.limit = min(e.limit+e.limit/16, maxRequestBytes)
		case partly:
			e.why = "the OTLP endpoint did not take all of them: " + err.Error()
			e.sent.Add(int64(asked) - rejected)
			e.lost.Add(rejected)
		case e.ctx.Err() != nil:
			e.why = "this process left before the OTLP endpoint had taken them"
			e.lost.Add(int64(n))
			return
		case permanent(err):
			e.why = "the OTLP endpoint refuses them: " + err.Error()
			e.lost.Add(int64(asked))
		default:
			e.tell(err)
			if time.Since(e.complained) > complainEvery {
				e.complain()
			}
			e.limit = max(size/2, minRequestBytes) // so much may never be taken in time, or at all
			select {
			case <-time.After(exportRetry):
			case <-e.ctx.Done():
			}
			continue
		}
		scopes, n = rest, n-asked
	}
}

// complain says what has gone missing since it was last said.
func (e *exporter) complain() {
	given, gone := e.buffer.givenUp.Load(), e.lost.Load()
	cause := e.why
	switch {
	case given == e.given && gone == e.gone:
		return
	case given > e.given || cause == "":
		cause = "the OTLP endpoint is away or too slow, and TRACE_BUFFER_BYTES are taken"
	}
	e.given, e.gone, e.complained = given, gone, time.Now()
	e.log.Error("traces are missing", "utterances_given_up", given, "spans_lost", gone, "cause", cause+"; the counts are since the start",
		"resolution", "see that OTEL_EXPORTER_OTLP_ENDPOINT is well, sample less (OTEL_TRACES_SAMPLER), or raise TRACE_BUFFER_BYTES")
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

// partlyRejected returns how many spans the collector refused of those it took.
func partlyRejected(err error) (rejected int64, ok bool) {
	if err == nil {
		return 0, false
	}
	text := err.Error() // the type is the OTLP client's own
	at := strings.LastIndexByte(text, '(')
	if !strings.HasPrefix(text, "OTLP partial success") || at < 0 {
		return 0, false
	}
	_, scanned := fmt.Sscanf(text[at:], "(%d spans rejected)", &rejected)
	return rejected, scanned == nil
}

// permanent reports whether the collector answered that it will never take it.
func permanent(err error) bool {
	if strings.HasPrefix(err.Error(), "retry-able") { // over HTTP: 429, 502, 503 or 504; the type is the OTLP client's own
		return false
	}
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
