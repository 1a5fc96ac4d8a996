package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP endpoint that reads what it is sent as one over the
// network would: from its bytes.
type collector struct {
	t *testing.T

	mu    sync.Mutex
	spans map[trace.SpanID]*tracepb.Span
	err   error         // what it answers
	stall chan struct{} // not nil: it answers when this is closed
	asked chan struct{} // gets what there is room for

	most    int // not 0: a request of more bytes than these is answered with tooMuch
	tooMuch error
}

func newCollector(t *testing.T) *collector {
	return &collector{t: t, spans: map[trace.SpanID]*tracepb.Span{}, asked: make(chan struct{}, 1)}
}

func (c *collector) Start(context.Context) error { return nil }
func (c *collector) Stop(context.Context) error  { return nil }

func (c *collector) UploadTraces(ctx context.Context, rs []*tracepb.ResourceSpans) error {
	c.mu.Lock()
	stall, err := c.stall, c.err
	if c.most > 0 && proto.Size(&coltracepb.ExportTraceServiceRequest{ResourceSpans: rs}) > c.most {
		err = c.tooMuch
	}
	c.mu.Unlock()
	select {
	case c.asked <- struct{}{}:
	default:
	}
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	data, err := proto.Marshal(&coltracepb.ExportTraceServiceRequest{ResourceSpans: rs})
	if err != nil {
		c.t.Error(err)
	}
	var read coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &read); err != nil {
		c.t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range read.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			if len(s.ProtoReflect().GetUnknown()) > 0 {
				c.t.Error("there are fields in a ScopeSpans that OTLP does not know")
			}
			for _, span := range s.GetSpans() {
				c.spans[trace.SpanID(span.GetSpanId())] = span
			}
		}
	}
	return nil
}

func (c *collector) answer(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *collector) named(name string) []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Collect(maps.Values(c.spans))
	spans = slices.DeleteFunc(spans, func(s *tracepb.Span) bool { return s.GetName() != name })
	slices.SortFunc(spans, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	return spans
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startTracer(t *testing.T, bufferBytes int) (*Tracer, *collector, *logBuffer) {
	t.Helper()
	c, log := newCollector(t), &logBuffer{}
	tracer, err := newTracer("test", bufferBytes, c, &loans{}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return tracer, c, log
}

func shutdown(t *testing.T, tracer *Tracer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := tracer.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// speak records an utterance of n frames, as if written 20 ms apart.
func speak(s *SessionTrace, n int) (*UtteranceTrace, time.Time) {
	began := time.Unix(1_700_000_000, 0)
	u := s.Utterance(UtteranceStart{Session: "s", Number: 1, Accepted: began})
	for i := range n {
		at := began.Add(time.Duration(i) * 20 * time.Millisecond)
		u.Spans().Record(FrameTimes{Sequence: uint64(i + 1), Start: at.UnixNano(), Queued: at.Add(time.Millisecond).UnixNano(), End: at.Add(15 * time.Millisecond).UnixNano(), Depth: i % 50})
	}
	u.Spans().Publish()
	return u, began
}

func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.GetAttributes() {
		switch {
		case a.GetValue().GetStringValue() != "":
			out[a.GetKey()] = a.GetValue().GetStringValue()
		default:
			out[a.GetKey()] = fmt.Sprint(a.GetValue().GetIntValue())
		}
	}
	return out
}

func TestEveryFrameHasItsSpan(t *testing.T) {
	tracer, c, _ := startTracer(t, 1<<20)
	s := tracer.Session(SessionStart{ID: "s"})
	s.Opened()
	const n = 3*chunkRecords + 7
	u, began := speak(s, n)
	play := s.Play(u)
	play.Record(FrameTimes{Sequence: 2, Start: began.UnixNano(), End: began.Add(time.Second).UnixNano(), Parent: u.Spans().SpanID(2),
		Clock: ClockError{Offset: -3 * time.Millisecond, Bound: time.Millisecond}})
	play.Close()
	u.End(UtteranceEnd{Reason: "completed", Frames: n})
	shutdown(t, tracer)

	root := c.named("utterance")
	if len(root) != 1 || len(root[0].GetLinks()) != 1 || len(root[0].GetParentSpanId()) != 0 {
		t.Fatalf("the roots are %v", root)
	}
	frames := c.named("frame.forward")
	if len(frames) != n {
		t.Fatalf("%d spans for %d frames", len(frames), n)
	}
	for i, f := range frames {
		at := uint64(began.UnixNano()) + uint64(i)*20e6
		if f.GetStartTimeUnixNano() != at || f.GetEndTimeUnixNano() != at+15e6 || f.GetKind() != tracepb.Span_SPAN_KIND_INTERNAL {
			t.Fatalf("frame %d: %v", i+1, f)
		}
		if !bytes.Equal(f.GetTraceId(), root[0].GetTraceId()) || !bytes.Equal(f.GetParentSpanId(), root[0].GetSpanId()) {
			t.Fatalf("frame %d is not its utterance's: %v", i+1, f)
		}
		a := attributes(f)
		if a["voxedge.frame.sequence"] != fmt.Sprint(i+1) || a["voxedge.queue.depth"] != fmt.Sprint(i%50) {
			t.Fatalf("frame %d: %v", i+1, a)
		}
		e := f.GetEvents()
		if len(e) != 3 || e[0].GetName() != "received" || e[1].GetName() != "queued" || e[2].GetName() != "written" || e[1].GetTimeUnixNano() != at+1e6 {
			t.Fatalf("frame %d: %v", i+1, e)
		}
	}
	played := c.named("frame.play")
	if len(played) != 1 || !bytes.Equal(played[0].GetParentSpanId(), frames[1].GetSpanId()) {
		t.Fatalf("played: %v", played)
	}
	if a := attributes(played[0]); a["voxedge.client.clock.offset_us"] != "-3000" || a["voxedge.client.clock.error_us"] != "1000" {
		t.Errorf("%v", a)
	}
	if tracer.Lost() != 0 || tracer.GivenUp() != 0 || tracer.Buffered() != 0 || tracer.Exported() != n+3 {
		t.Errorf("lost %d, given up %d, buffered %d, exported %d", tracer.Lost(), tracer.GivenUp(), tracer.Buffered(), tracer.Exported())
	}
}

// What is too much for a collector to take, at once or in time, is sent in smaller
// pieces.
func TestWhatIsTooMuchIsSentInPieces(t *testing.T) {
	for _, refusal := range []error{context.DeadlineExceeded, status.Error(codes.ResourceExhausted, "received message larger than max")} {
		synctest.Test(t, func(t *testing.T) {
			tracer, c, _ := startTracer(t, 8<<20)
			c.most, c.tooMuch = 100_000, refusal
			s := tracer.Session(SessionStart{ID: "s"})
			s.Opened()
			const n = 20_000
			u, _ := speak(s, n)
			u.End(UtteranceEnd{Reason: "completed", Frames: n})
			time.Sleep(time.Minute)
			shutdown(t, tracer)
			if got := len(c.named("frame.forward")); got != n {
				t.Errorf("%v: of %d spans %d arrived", refusal, n, got)
			}
			if tracer.Lost() != 0 || tracer.Exported() != n+2 || tracer.Buffered() != 0 {
				t.Errorf("%v: lost %d, exported %d, buffered %d", refusal, tracer.Lost(), tracer.Exported(), tracer.Buffered())
			}
		})
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	f := newFrames(newBuffer(1<<20), Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}), new(atomic.Bool))
	parent := f.Traceparent(7)
	now := time.Now().UnixNano()
	if n := testing.AllocsPerRun(chunkRecords-2, func() {
		f.Record(FrameTimes{Sequence: 1, Start: now, Queued: now, End: now, Depth: 1, Parent: f.Parent([]byte(parent))})
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if f.Parent([]byte(parent)) != f.SpanID(7) {
		t.Error("a traceparent does not come back")
	}
}

func TestParentsOfOtherTracesAreNone(t *testing.T) {
	b := newBuffer(1 << 20)
	f := newFrames(b, Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}), new(atomic.Bool))
	other := newFrames(b, Forward, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{9}, SpanID: trace.SpanID{2}}), new(atomic.Bool))
	own := f.Traceparent(1)
	for _, s := range []string{"", "00", other.Traceparent(1), "01" + own[2:], own[:36] + "ghijklmnopqrstuv-01", own + "0", own[:35] + "_" + own[36:]} {
		if p := f.Parent([]byte(s)); p != (SpanParent{}) {
			t.Errorf("%q is a parent: %x", s, p)
		}
	}
}

// The collector is away for as long as it takes to say that it is, and comes back.
func TestACollectorThatIsAwayCostsNoSpan(t *testing.T) {
	tracer, c, log := startTracer(t, 1<<20)
	c.answer(context.DeadlineExceeded)
	s := tracer.Session(SessionStart{ID: "s"})
	s.Opened()
	u, _ := speak(s, 200)
	u.End(UtteranceEnd{})
	<-c.asked
	c.answer(nil)
	shutdown(t, tracer)
	if n := len(c.named("frame.forward")); n != 200 {
		t.Errorf("%d spans for 200 frames", n)
	}
	if !bytes.Contains([]byte(log.String()), []byte("spans cannot be sent")) {
		t.Errorf("nobody was told: %s", log)
	}
}

// Memory is bounded: what does not fit is given up by the utterance, and said.
func TestUtterancesAreGivenUpWhole(t *testing.T) {
	const limit = 200_000
	tracer, c, log := startTracer(t, limit)
	c.stall = make(chan struct{})
	s := tracer.Session(SessionStart{ID: "s"})
	s.Opened()
	<-c.asked // from here on it takes nothing, and what it took stays
	fits, _ := speak(s, 20*chunkRecords)
	tooLong, _ := speak(s, limit/chunkBytes*chunkRecords)
	utterances := []*UtteranceTrace{fits, tooLong}
	for refused := false; !refused; { // there is not even room for a root
		u, _ := speak(s, 1)
		utterances = append(utterances, u)
		refused = u.TraceID() == ""
	}
	if n := tracer.GivenUp(); n != int64(len(utterances)-1) {
		t.Errorf("%d utterances were given up before the endpoint answered, want %d", n, len(utterances)-1)
	}
	for _, u := range utterances {
		u.End(UtteranceEnd{})
	}
	if tracer.Buffered() > limit {
		t.Errorf("%d bytes are taken", tracer.Buffered())
	}
	close(c.stall)
	shutdown(t, tracer)
	count := map[string]int{}
	for _, f := range c.named("frame.forward") {
		count[trace.TraceID(f.GetTraceId()).String()]++
	}
	if len(count) != 1 || count[fits.TraceID()] != 20*chunkRecords {
		t.Errorf("spans by utterance: %v", count)
	}
	if tracer.Buffered() != 0 || tracer.Lost() != 0 {
		t.Errorf("%d bytes are still taken, %d spans were lost", tracer.Buffered(), tracer.Lost())
	}
	if n := bytes.Count([]byte(log.String()), []byte("traces are missing")); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
	given := 0
	for _, root := range c.named("utterance") {
		for _, a := range root.GetAttributes() {
			if a.GetKey() == "voxedge.trace.frames_given_up" && a.GetValue().GetBoolValue() {
				given++
			}
		}
	}
	if given != len(utterances)-2 {
		t.Errorf("%d roots say that their frames are missing, want %d", given, len(utterances)-2)
	}
}

// Utterances without audio take memory too: their roots.
func TestRootsAreWithinTheBound(t *testing.T) {
	const limit = 1 << 20
	tracer, c, _ := startTracer(t, limit)
	c.stall = make(chan struct{})
	s := tracer.Session(SessionStart{ID: "s"})
	s.Opened()
	<-c.asked
	const n = 10_000
	traced := 0
	for range n {
		u, _ := speak(s, 0)
		if u.TraceID() != "" {
			traced++
		}
		u.End(UtteranceEnd{})
		if tracer.Buffered() > limit {
			t.Fatalf("%d bytes are taken", tracer.Buffered())
		}
	}
	if traced == n || tracer.GivenUp() < n-int64(traced) {
		t.Errorf("%d of %d utterances were traced, %d given up", traced, n, tracer.GivenUp())
	}
	close(c.stall)
	shutdown(t, tracer)
	if roots := len(c.named("utterance")); roots != traced || tracer.Lost() != 0 {
		t.Errorf("%d roots arrived of %d utterances that were traced; %d spans were lost", roots, traced, tracer.Lost())
	}
}

func TestRefusedSpansAreCounted(t *testing.T) {
	tracer, c, log := startTracer(t, 1<<20)
	c.answer(errors.New("failed to send to http://collector: 400 Bad Request"))
	s := tracer.Session(SessionStart{ID: "s"})
	s.Opened()
	u, _ := speak(s, 10)
	u.End(UtteranceEnd{})
	shutdown(t, tracer)
	if tracer.Lost() != 12 || !bytes.Contains([]byte(log.String()), []byte("traces are missing")) {
		t.Errorf("lost %d: %s", tracer.Lost(), log)
	}
}

// A client's own decision holds for its utterances.
func TestTheClientDecides(t *testing.T) {
	for _, tt := range []struct {
		sampler, flags string
		traced         bool
	}{
		{"parentbased_always_off", "01", true}, {"parentbased_always_on", "00", false}, {"always_off", "01", false},
	} {
		t.Run(tt.sampler+" "+tt.flags, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", tt.sampler)
			tracer, c, _ := startTracer(t, 1<<20)
			const id = "0af7651916cd43dd8448eb211c80319c"
			s := tracer.Session(SessionStart{ID: "s", Traceparent: "00-" + id + "-b7ad6b7169203331-" + tt.flags})
			s.Opened()
			u, _ := speak(s, 3)
			u.End(UtteranceEnd{})
			shutdown(t, tracer)
			frames := c.named("frame.forward")
			if (len(frames) == 3) != tt.traced || (u.TraceID() != "") != tt.traced {
				t.Errorf("%d frames are traced", len(frames))
			}
			for _, opening := range c.named("session") {
				if trace.TraceID(opening.GetTraceId()).String() != id {
					t.Errorf("the session is not in its client's trace: %v", opening)
				}
			}
			if u.TraceID() == id {
				t.Error("the utterance has no trace of its own")
			}
		})
	}
}
