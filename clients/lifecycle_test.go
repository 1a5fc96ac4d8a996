package clients

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// startEdge's close checks in every test that each session that was taken is
// ended once; these tests are about when.

func TestASessionIsStartedOnceAndEndedAtItsEnd(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	e.hearTone(s, "two")
	want := []string{"StartSession s", "Synthesize s", "Synthesize s"}
	if calls := w.heard(""); !slices.Equal(calls, want) {
		t.Errorf("the worker got %q, want %q", calls, want)
	}
	e.close()
	if calls := w.heard(""); !slices.Equal(calls, append(want, "EndSession s")) {
		t.Errorf("the worker got %q", calls)
	}
}

func TestASessionThatSaysNothingAsksNoWorker(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	if name, model := s.Worker(); name != "" || model != "" {
		t.Errorf("its worker is %q and its model %q before it has any", name, model)
	}
	e.close()
	if calls := w.heard(""); len(calls) != 0 {
		t.Errorf("the worker got %q", calls)
	}
}

func TestCloseTwiceEndsTheSessionOnce(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "text")
	s.Close()
	s.Close()
	w.await("EndSession s")
}

func TestStartSessionSaysWhatTheClientAskedFor(t *testing.T) {
	asked := make(chan *proto.StartSessionRequest, 1)
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.start = func(_ context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
			asked <- r
			return &proto.StartSessionResponse{Success: true}, nil
		}
	})
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{Model: "voice", Language: "de", Options: map[string]string{"speed": "2"}})
	e.hearTone(s, "text")
	r := await(t, "StartSession", asked)
	if r.GetSessionId() != "s" || r.GetModelId() != "voice" || !maps.Equal(r.GetOptions(), map[string]string{"speed": "2", "language": "de"}) {
		t.Errorf("StartSession was %v", r)
	}
	if name, model := s.Worker(); name != "a" || model != "voice" {
		t.Errorf("the worker is %q and the model %q, want a and voice", name, model)
	}
}

// A worker that chooses a model itself may choose another at each start.
func TestWithoutAModelTheSessionSettlesOnAResidentOne(t *testing.T) {
	asked := make(chan string, 2)
	ask := func(_ context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
		asked <- r.GetModelId()
		return &proto.StartSessionResponse{Success: true}, nil
	}
	a := startWorker(t, "a", func(w *ttsWorker) {
		w.start, w.caps.ResidentModels = ask, []string{"x"}
		w.speak = func(*utterance) error { return status.Error(codes.Internal, "out of memory") }
	})
	b := startWorker(t, "b", func(w *ttsWorker) { w.start, w.caps.ResidentModels = ask, []string{"y", "x"} })
	e := startEdge(t, poolConfig(), a, b)
	e.worker("b").streams.Add(1) // so that a is taken first
	s := e.session("s", session.Params{})
	e.hearTone(s, "text")
	e.worker("b").streams.Add(-1)
	for range 2 {
		if model := await(t, "StartSession", asked); model != "x" {
			t.Errorf("the session was started with %q, want x at both workers", model)
		}
	}
}

func TestASessionStaysWithItsWorker(t *testing.T) {
	cfg := poolConfig()
	cfg.Strategy = RoundRobin
	workers := []*ttsWorker{startWorker(t, "a", nil), startWorker(t, "b", nil), startWorker(t, "c", nil)}
	e := startEdge(t, cfg, workers...)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	chosen, _ := s.Worker()
	for range 5 {
		e.hearTone(s, "more")
		if name, _ := s.Worker(); name != chosen {
			t.Fatalf("it went from worker %s to %s", chosen, name)
		}
	}
	for _, w := range workers {
		want := 0
		if w.name == chosen {
			want = 1
		}
		if starts := w.heard("StartSession"); len(starts) != want {
			t.Errorf("worker %s got %q, want %d", w.name, starts, want)
		}
	}
}

func TestStopCancelsTheStreamAndKeepsTheSession(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) {
		speakNext := func(u *utterance) error {
			if err := u.tone(0, 2); err != nil {
				return err
			}
			return u.hang()
		}
		w.speak = func(u *utterance) error {
			speak := speakNext
			speakNext = speakTone
			return speak(u)
		}
	})
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	sp, began := e.start(s, script("text"), nil)
	await(t, "the first frame", began)
	sp.stop()
	if err := await(t, "the end", sp.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak returned %v, want that it was cancelled", err)
	}
	w.await("cancelled s")
	e.hearTone(s, "next")
	if calls := w.heard("StartSession"); len(calls) != 1 {
		t.Errorf("the worker got %q, want one", calls)
	}
	if calls := w.heard("EndSession"); len(calls) != 0 {
		t.Errorf("the worker got %q while the session lives", calls)
	}
}

// A StartSession that failed may have started the session all the same.
func TestASessionThatMayHaveStartedIsEnded(t *testing.T) {
	tests := map[string]func(context.Context, *proto.StartSessionRequest) (*proto.StartSessionResponse, error){
		"timeout": func(ctx context.Context, _ *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	// None of these is about the text, which the worker has not seen.
	for _, code := range []codes.Code{codes.Internal, codes.Unavailable, codes.NotFound, codes.InvalidArgument, codes.OutOfRange, codes.ResourceExhausted} {
		tests[code.String()] = func(context.Context, *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
			return nil, status.Error(code, "the worker says so")
		}
	}
	for name, start := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := poolConfig()
			if name == "timeout" {
				cfg.StartTimeout = 500 * time.Millisecond
			}
			a := startWorker(t, "a", func(w *ttsWorker) { preferred(w); w.start = start })
			b := startWorker(t, "b", nil)
			e := startEdge(t, cfg, a, b)
			s := e.session("s", voice)
			e.hearTone(s, "text")
			a.await("EndSession s")
			e.close()
			if calls := a.heard("EndSession"); len(calls) != 1 {
				t.Errorf("worker a got %q, want one", calls)
			}
			if calls := a.heard("Synthesize"); len(calls) != 0 {
				t.Errorf("worker a got %q in a session that did not start", calls)
			}
		})
	}
}

// startHeld is a StartSession that waits until the caller gives up.
func startHeld(ctx context.Context, _ *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestStopDuringStartSessionEndsTheSession(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) { w.start = startHeld })
	e := startEdge(t, poolConfig(), w)
	sp, _ := e.start(e.session("s", session.Params{}), script("text"), nil)
	w.await("StartSession s")
	sp.stop()
	if err := await(t, "the end", sp.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak returned %v, want that it was cancelled", err)
	}
	w.await("EndSession s")
	e.close()
	if calls := w.heard("EndSession"); len(calls) != 1 {
		t.Errorf("the worker got %q, want one", calls)
	}
}

// It was the client that gave up, so no other session may suffer for it.
func TestStopDuringStartSessionIsNoFailureOfTheWorker(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) { w.start = startHeld })
	e := startEdge(t, poolConfig(), w)
	sp, _ := e.start(e.session("s", session.Params{}), script("text"), nil)
	w.await("StartSession s")
	sp.stop()
	await(t, "the end", sp.done)
	if e.failed("a") {
		t.Error("a client's STOP counts against the worker")
	}
}

func TestASessionLeavesAWorkerThatIsNoLongerHealthy(t *testing.T) {
	a := startWorker(t, "a", preferred)
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	e.hearTone(s, "one")
	// It stops listening, and the next health check finds out.
	a.die()
	e.until("the edge knows", func() bool { healthy, _ := e.pool.Workers(); return healthy == 1 })
	e.hearTone(s, "two")
	if name, _ := s.Worker(); name != "b" {
		t.Errorf("the session is at worker %s", name)
	}
	if calls := b.heard("StartSession"); len(calls) != 1 {
		t.Errorf("worker b got %q, want one", calls)
	}
}

// A worker that is taken out of the registry finishes what it is saying.
func TestAWorkerThatLeavesFinishesItsUtterance(t *testing.T) {
	a := startWorker(t, "a", preferred)
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	hold := make(chan struct{})
	sp, began := e.start(s, script("text"), hold)
	await(t, "the first frame", began)
	gone := e.worker("a")
	e.pool.mu.Lock()
	e.pool.replace([]Announcement{b.announcement()}, "a")
	e.pool.mu.Unlock()
	close(hold)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("text"))
	e.hearTone(s, "next")
	if name, _ := s.Worker(); name != "b" {
		t.Errorf("the next utterance was spoken by worker %s", name)
	}
	a.await("EndSession s")
	e.close()
	if n := gone.sessions.Load(); n != 0 {
		t.Errorf("the worker that left still has %d sessions", n)
	}
}
