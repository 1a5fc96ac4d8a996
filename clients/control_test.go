package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// controllable says that Control acts on the named session alone.
func controllable(w *ttsWorker) {
	w.caps.Capabilities = &proto.Capabilities{SessionControl: true}
}

var allCommands = []session.Command{session.Pause, session.Resume, session.Stop}

func TestAWorkerThatSharesItsModelGetsNoControl(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	for _, c := range allCommands {
		s.Control(c)
	}
	e.hearTone(s, "two")
	e.close() // waits for all calls
	if calls := w.heard("Control"); len(calls) != 0 {
		t.Errorf("the worker got %q", calls)
	}
}

func TestBeforeThereIsAWorkerNobodyGetsControl(t *testing.T) {
	w := startWorker(t, "a", controllable)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	for _, c := range allCommands {
		s.Control(c)
	}
	e.hearTone(s, "one")
	e.close()
	if calls := w.heard("Control"); len(calls) != 0 {
		t.Errorf("the worker got %q", calls)
	}
}

func TestControlNamesTheSessionAndTheCommand(t *testing.T) {
	w := startWorker(t, "a", controllable)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	for _, c := range allCommands {
		s.Control(c)
		w.await(fmt.Sprintf("Control s %s", c))
	}
}

// heldControl makes the worker take its time with its first command.
func heldControl(release <-chan struct{}) func(*ttsWorker) {
	return func(w *ttsWorker) {
		controllable(w)
		w.control = func(ctx context.Context, r *proto.ControlRequest) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			w.record("done %s", r.GetCommand())
		}
	}
}

func TestOfCommandsThatPileUpTheLastIsTold(t *testing.T) {
	release := make(chan struct{})
	w := startWorker(t, "a", heldControl(release))
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	s.Control(session.Pause)
	w.await("Control s PAUSE")
	for _, c := range []session.Command{session.Resume, session.Pause, session.Resume, session.Stop} {
		s.Control(c)
	}
	close(release)
	w.await("done STOP")
	e.close()
	want := []string{"Control s PAUSE", "Control s STOP"}
	if calls := w.heard("Control"); !slices.Equal(calls, want) {
		t.Errorf("the worker got %q, want %q", calls, want)
	}
}

// A STOP that comes late would stop the next utterance. While the worker takes
// its time with it, another session speaks, which shows that there was time for
// the next utterance to begin too early.
func TestStopIsToldBeforeTheNextUtteranceBegins(t *testing.T) {
	release := make(chan struct{})
	w := startWorker(t, "a", heldControl(release))
	e := startEdge(t, poolConfig(), w)
	s, other := e.session("s", session.Params{}), e.session("other", session.Params{})
	e.hearTone(s, "one")
	s.Control(session.Stop)
	w.await("Control s STOP")
	sp, _ := e.start(s, script("two"), nil)
	for range 5 {
		e.hearTone(other, "meanwhile another session speaks")
	}
	close(release)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("two"))
	calls := w.heard("")
	slices.Reverse(calls)
	if slices.Index(calls, "Synthesize s") > slices.Index(calls, "done STOP") {
		t.Errorf("the next utterance began before STOP was told; from the last: %q", calls)
	}
}

func TestWaitingForStopToBeToldEndsWithTheUtterance(t *testing.T) {
	release := make(chan struct{})
	w := startWorker(t, "a", heldControl(release))
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	s.Control(session.Stop)
	w.await("Control s STOP")
	sp, _ := e.start(s, script("two"), nil)
	sp.stop()
	if err := await(t, "the end", sp.done); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak returned %v, want that it was cancelled", err)
	}
	close(release)
}

// The worker has hung, and Control with it; the session must not.
func TestAControlThatFailsIsNoFailureOfTheSession(t *testing.T) {
	late := make(chan struct{})
	w := startWorker(t, "a", func(w *ttsWorker) {
		controllable(w)
		w.control = func(context.Context, *proto.ControlRequest) { <-late }
	})
	e := startEdge(t, poolConfig(), w)
	t.Cleanup(func() { close(late) })
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	s.Control(session.Stop)
	e.hearTone(s, "two")
	// The STOP may come late yet: it names a session that speaks no more.
	if calls := w.heard("Synthesize"); len(calls) != 2 || calls[1] == calls[0] {
		t.Errorf("it goes on under the same name: %q", calls)
	}
}

// What a worker says of itself may change, but not that it was told to pause.
func TestAPauseThatWasToldIsEnded(t *testing.T) {
	w := startWorker(t, "a", controllable)
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	s.Control(session.Pause)
	w.await("Control s PAUSE")
	e.endHealthChecks()
	e.worker("a").update(func(state *workerState) { state.caps = &proto.Capabilities{} })
	s.Control(session.Resume)
	w.await("Control s RESUME")
}

func TestControlGoesToTheWorkerThatTookOver(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		controllable(w)
		preferred(w)
		w.speak = func(*utterance) error { return status.Error(codes.Internal, "out of memory") }
	})
	b := startWorker(t, "b", controllable)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	e.hearTone(s, "text")
	s.Control(session.Pause)
	e.close()
	if calls := a.heard("Control"); len(calls) != 0 {
		t.Errorf("the worker that failed got %q", calls)
	}
	starts, commands := b.heard("StartSession"), b.heard("Control")
	if len(starts) != 1 || len(commands) != 1 || commands[0] != "Control"+starts[0][len("StartSession"):]+" PAUSE" {
		t.Errorf("the worker that took over got %q and %q, want the same session", starts, commands)
	}
}

// The worker that was told to pause has failed. The one that took over was not
// told, because it takes no commands, and so owes its frames after RESUME.
func TestAPauseAtAnotherWorkerHidesNoStall(t *testing.T) {
	fail := make(chan struct{})
	var failed, stalled atomic.Bool
	a := startWorker(t, "a", func(w *ttsWorker) {
		controllable(w)
		preferred(w)
		w.speak = func(u *utterance) error {
			if !failed.CompareAndSwap(false, true) {
				return speakTone(u)
			}
			if err := u.tone(0, 1); err != nil {
				return err
			}
			select {
			case <-fail:
			case <-u.Context().Done():
			}
			return status.Error(codes.Internal, "out of memory")
		}
	})
	b := startWorker(t, "b", func(w *ttsWorker) {
		w.speak = func(u *utterance) error {
			if stalled.CompareAndSwap(false, true) {
				w.record("stall")
				return u.hang()
			}
			return speakTone(u)
		}
	})
	cfg := poolConfig()
	cfg.StallTimeout, cfg.FirstFrameTimeout = time.Second, time.Second
	e := startEdge(t, cfg, a, b)
	s := e.session("s", voice)
	sp, began := e.start(s, script("text"), nil)
	await(t, "the first frame", began)
	s.Control(session.Pause)
	a.await("Control s PAUSE")
	close(fail)
	b.await("stall")
	s.Control(session.Resume)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("text"))
}

// A worker that was told to pause sends nothing, as it was told. That it stays
// silent for longer than a stall is the client's doing.
func TestAPauseIsNoStall(t *testing.T) {
	resumed := make(chan struct{})
	a := startWorker(t, "a", func(w *ttsWorker) {
		controllable(w)
		preferred(w)
		w.control = func(_ context.Context, r *proto.ControlRequest) {
			if r.GetCommand() == proto.ControlCommand_RESUME {
				close(resumed)
			}
		}
		w.speak = reader(func(u *utterance) error {
			if err := u.tone(0, 1); err != nil {
				return err
			}
			select {
			case <-resumed:
			case <-u.Context().Done():
				return u.Context().Err()
			}
			if err := u.tone(1, framesOf("text")); err != nil {
				return err
			}
			return u.send(nil, true)
		})
	})
	b := startWorker(t, "b", nil)
	cfg := poolConfig()
	cfg.StallTimeout = time.Second
	e := startEdge(t, cfg, a, b)
	s := e.session("s", voice)
	sp, began := e.start(s, script("text"), nil)
	await(t, "the first frame", began)
	s.Control(session.Pause)
	a.await("Control s PAUSE")
	<-time.After(2 * cfg.StallTimeout) // the client's pause
	s.Control(session.Resume)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("text"))
	if calls := b.heard(""); len(calls) != 0 {
		t.Errorf("another worker took over in the pause: %q", calls)
	}
	if e.failed("a") {
		t.Error("the pause counts against the worker")
	}
}
