package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

func refuse(context.Context, *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
	return &proto.StartSessionResponse{Message: "all 8 sessions are taken"}, nil
}

func failing(code codes.Code) func(*utterance) error {
	return reader(func(*utterance) error { return status.Error(code, "the worker says so") })
}

// nothingListens returns an address at which nothing does. Its port is below those
// that the kernel gives to connections, so that none takes it.
func nothingListens(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.N(12_000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			_ = ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func TestWithoutAWorkerTheClientIsToldWhy(t *testing.T) {
	tests := []struct {
		name   string
		source func(t *testing.T) Static
		why    string // in the error's text, for the log
	}{
		{"none is known", func(*testing.T) Static { return nil }, "no worker is known"},
		{"none listens", func(t *testing.T) Static {
			return Static{{Name: "a", Addr: nothingListens(t)}}
		}, "connection refused"},
		{"none is healthy", func(t *testing.T) Static {
			return Static{startWorker(t, "a", func(w *ttsWorker) {
				w.health = health.NewServer()
				w.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
			}).announcement()}
		}, "NOT_SERVING"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := startEdgeAt(t, poolConfig(), tt.source(t))
			e.until("the reason is known", func() bool {
				err := e.pool.Ready(e.ctx)
				return err != nil && strings.Contains(err.Error(), tt.why)
			})
			err := e.speak(e.session("s", session.Params{}), "text", (&ear{}).emit)
			checkCode(t, err, session.WorkerUnavailable)
			if !strings.Contains(err.Error(), tt.why) {
				t.Errorf("the error is %q, want that it says %q", err, tt.why)
			}
		})
	}
}

// lateLookup is a Source that says nothing until it is let.
type lateLookup struct {
	Static
	asked, answer chan struct{}
}

func (l lateLookup) Workers(ctx context.Context) ([]Announcement, error) {
	close(l.asked)
	select {
	case <-l.answer:
		return l.Static, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// An edge that has just started knows of no worker, and a worker that has just come
// is not checked: text waits for that, and does not fail.
func TestTextWaitsForTheFirstLookAtTheWorkers(t *testing.T) {
	checked, well := make(chan struct{}), make(chan struct{})
	isChecked := sync.OnceFunc(func() { close(checked) })
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.limits = []grpc.ServerOption{grpc.UnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if info.FullMethod == proto.TTSService_ListModels_FullMethodName { // the check's last call
				isChecked()
				<-well
			}
			return handle(ctx, request)
		})}
	})
	source := lateLookup{Static{w.announcement()}, make(chan struct{}), make(chan struct{})}
	e := startEdgeAt(t, poolConfig(), source)
	expectWait := func(when string) {
		t.Helper()
		_, err := e.pool.pick(want{})
		if none, ok := errors.AsType[*noWorker](err); !ok || none.rest != checkedSoon {
			t.Errorf("%s, who asks for a worker gets %v, want that they are told to wait", when, err)
		}
	}
	spoken := make(chan error, 1)
	s := e.session("s", session.Params{})
	<-source.asked
	expectWait("before the lookup")
	go func() { spoken <- e.speak(s, "text", (&ear{}).emit) }()
	close(source.answer)
	<-checked
	expectWait("before the check")
	close(well)
	if err := <-spoken; err != nil {
		t.Errorf("text that comes before the check is over: %v", err)
	}
}

// expectTold checks what the client reads of the error.
func expectTold(t *testing.T, err error, part string) {
	t.Helper()
	if e, ok := errors.AsType[*session.Error](err); !ok || !strings.Contains(e.Message(), part) {
		t.Errorf("the client is told %v, want that it says %q", err, part)
	}
}

func TestTheClientIsToldWhatItAsksForAndCannotHave(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) { w.caps.Capabilities.Languages = []string{"en"} })
	e := startEdgeAt(t, poolConfig(), Static{w.announcement(), {Name: "b", Addr: nothingListens(t)}})
	e.until("a worker is well", func() bool { return e.pool.Ready(e.ctx) == nil })
	err := e.speak(e.session("s", session.Params{Language: "xx"}), "text", (&ear{}).emit)
	checkCode(t, err, session.WorkerUnavailable)
	expectTold(t, err, `no worker has the language "xx"`)
	if e, _ := errors.AsType[*session.Error](err); strings.Contains(e.Message(), "refused") {
		t.Errorf("the client is told of workers' ills: %q", e.Message())
	}
}

func TestARefusedSessionGoesToAnotherWorker(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) { preferred(w); w.start = refuse })
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	e.hearTone(e.session("s", voice), "text")
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q, want one", calls)
	}
	if e.failed("a") {
		t.Error("a refusal counts as a failure of the worker")
	}
	e.close()
	if calls := a.heard(""); len(calls) != 1 {
		t.Errorf("the worker that refused got %q, want StartSession alone", calls)
	}
}

// The workers never saw the text, so it cannot be at fault.
func TestWorkersThatRefuseAreNoFaultOfTheText(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(n, " workers"), func(t *testing.T) {
			var workers []*ttsWorker
			for i := range n {
				workers = append(workers, startWorker(t, fmt.Sprint("w", i), func(w *ttsWorker) { w.start = refuse }))
			}
			e := startEdge(t, poolConfig(), workers...)
			err := e.speak(e.session("s", session.Params{}), "text", (&ear{}).emit)
			checkCode(t, err, session.WorkerUnavailable)
			expectTold(t, err, "all 8 sessions are taken")
			for _, w := range workers {
				if calls := w.heard(""); len(calls) != 1 {
					t.Errorf("worker %s got %q, want to be asked once", w.name, calls)
				}
			}
		})
	}
}

// It costs nothing to ask the next, so a place is found where there is one.
func TestTheOneWorkerThatDoesNotRefuseIsFound(t *testing.T) {
	var workers []*ttsWorker
	for i := range 9 {
		workers = append(workers, startWorker(t, fmt.Sprint("w", i), func(w *ttsWorker) {
			preferred(w)
			w.start = refuse
		}))
	}
	e := startEdge(t, poolConfig(), append(workers, startWorker(t, "willing", nil))...)
	s := e.session("s", voice)
	e.hearTone(s, "text")
	if name, _ := s.Worker(); name != "willing" {
		t.Errorf("it was spoken by worker %s", name)
	}
}

func TestTheOnlyWorkerDies(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = reader(func(u *utterance) error {
			if err := u.tone(0, 3); err != nil {
				return err
			}
			return u.hang()
		})
	})
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	sp, began := e.start(s, script("text"), nil)
	await(t, "the first frame", began)
	w.die()
	checkCode(t, await(t, "the end", sp.done), session.WorkerUnavailable)
	checkTone(t, sp.frames, toneHz, 0, len(sp.frames)) // those that came are right

	// The session lives on: the worker returns, and is used again.
	w.speak = speakTone
	w.serve(w.addr)
	e.until("the worker is back", func() bool { return e.pool.Ready(e.ctx) == nil })
	e.hearTone(s, "again")
}

// All have failed and rest; then they are well again.
func TestWorkersThatWereAllFailingAreUsedAgain(t *testing.T) {
	fail := make(chan struct{}) // closed when they are well
	configure := func(w *ttsWorker) {
		w.speak = func(u *utterance) error {
			select {
			case <-fail:
				return speakTone(u)
			default:
				return status.Error(codes.Internal, "out of memory")
			}
		}
	}
	a, b := startWorker(t, "a", configure), startWorker(t, "b", configure)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", session.Params{})
	if err := e.speak(s, "text", (&ear{}).emit); err == nil {
		t.Fatal("it was spoken by failing workers")
	}
	if !e.failed("a") || !e.failed("b") {
		t.Fatalf("a failed: %t, b failed: %t; want both", e.failed("a"), e.failed("b"))
	}
	close(fail)
	e.until("some worker is rested", func() bool { return e.pool.Ready(e.ctx) == nil })
	e.hearTone(s, "again")
}

// The worker says that the text is at fault; no other would do better.
func TestABadTextIsNotTriedElsewhere(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.OutOfRange} {
		t.Run(code.String(), func(t *testing.T) {
			a := startWorker(t, "a", func(w *ttsWorker) {
				preferred(w)
				w.speak = func(u *utterance) error {
					text, err := u.text()
					if err != nil || text != "bad" {
						return err
					}
					return status.Error(code, "no such characters")
				}
			})
			b := startWorker(t, "b", nil)
			e := startEdge(t, poolConfig(), a, b)
			s := e.session("s", voice)
			err := e.speak(s, "bad", (&ear{}).emit)
			checkCode(t, err, session.SynthesisFailed)
			expectTold(t, err, "no such characters")
			if calls := b.heard(""); len(calls) != 0 {
				t.Errorf("another worker got %q", calls)
			}
			if e.failed("a") {
				t.Error("a bad text counts against the worker")
			}
			e.hear(s, "good")
			if calls := a.heard("S"); len(calls) != 3 {
				t.Errorf("the worker got %q, want one StartSession and two Synthesize", calls)
			}
		})
	}
}

// A text at which every worker fails must not go round for ever.
func TestATextThatFailsEverywhereIsGivenUp(t *testing.T) {
	var workers []*ttsWorker
	for i := range 8 {
		workers = append(workers, startWorker(t, fmt.Sprint("w", i), func(w *ttsWorker) { w.speak = failing(codes.Internal) }))
	}
	e := startEdge(t, poolConfig(), workers...)
	checkCode(t, e.speak(e.session("s", session.Params{}), "text", (&ear{}).emit), session.SynthesisFailed)
	tries := 0
	for _, w := range workers {
		calls := w.heard("Synthesize")
		if len(calls) > 1 {
			t.Errorf("worker %s was tried again while others were not: %q", w.name, calls)
		}
		tries += len(calls)
	}
	if tries != maxAttempts {
		t.Errorf("%d workers were tried, want %d", tries, maxAttempts)
	}
}
