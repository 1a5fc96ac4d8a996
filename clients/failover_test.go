package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

// failures are the ways in which a worker fails in the middle of an utterance.
func failures() map[string]func(*utterance) error {
	all := map[string]func(*utterance) error{
		"stalls": (*utterance).hang,
		"is killed": func(u *utterance) error {
			go u.worker.die() // it waits for this call to end
			return u.hang()
		},
	}
	for _, code := range []codes.Code{
		codes.Unavailable, codes.Internal, codes.Unknown, codes.ResourceExhausted, codes.Canceled, codes.DeadlineExceeded, codes.FailedPrecondition,
	} {
		all["answers "+code.String()] = func(*utterance) error { return status.Error(code, "the worker says so") }
	}
	for name, fault := range faults {
		all["sends "+name] = func(u *utterance) error {
			if err := fault(u); err != nil {
				return err
			}
			return u.hang()
		}
	}
	return all
}

// failAfter speaks n frames of the tone, waits until the client has them, and
// then fails.
func failAfter(n int, heard <-chan struct{}, fail func(*utterance) error) func(*utterance) error {
	return reader(func(u *utterance) error {
		if err := u.tone(0, n); err != nil {
			return err
		}
		for range n {
			select {
			case <-heard:
			case <-u.Context().Done():
				return u.Context().Err()
			}
		}
		return fail(u)
	})
}

func TestAnotherWorkerGoesOnWhereOneFailed(t *testing.T) {
	all := failures()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, n := range []int{0, 1, 7} {
			t.Run(fmt.Sprintf("%s after %d frames", name, n), func(t *testing.T) {
				cfg := poolConfig()
				if name == "stalls" {
					cfg.StallTimeout, cfg.FirstFrameTimeout = time.Second, time.Second
				}
				heard := make(chan struct{}, 100)
				a := startWorker(t, "a", func(w *ttsWorker) { preferred(w); w.speak = failAfter(n, heard, all[name]) })
				b := startWorker(t, "b", nil)
				e := startEdge(t, cfg, a, b)
				s := e.session("s", voice)
				var ear ear
				err := e.speak(s, "hello", func(f session.Frame) error {
					heard <- struct{}{}
					return ear.emit(f)
				})
				if err != nil {
					t.Fatal(err)
				}
				checkTone(t, ear.frames, toneHz, 0, framesOf("hello"))
				for _, w := range []*ttsWorker{a, b} {
					if calls := w.heard("Synthesize"); len(calls) != 1 {
						t.Errorf("worker %s got %q, want one", w.name, calls)
					}
				}
				if name, _ := s.Worker(); name != "b" {
					t.Errorf("the session is at worker %s", name)
				}
				if !e.failed("a") || e.failed("b") {
					t.Errorf("a failed: %t, b failed: %t", e.failed("a"), e.failed("b"))
				}
				if name != "is killed" {
					a.await("EndSession s") // at once, not only when the client goes
				}
			})
		}
	}
}

// Each worker fails before, at or behind the place where the one before failed.
func TestOneFailoverAfterAnother(t *testing.T) {
	for _, places := range [][]int{{3, 9, 12}, {9, 3, 12}, {7, 7, 7}, {0, 15, 0}} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			var failed int // attempts; they come one after another
			var workers []*ttsWorker
			for i := range len(places) + 1 {
				workers = append(workers, startWorker(t, fmt.Sprint("w", i), func(w *ttsWorker) {
					w.speak = reader(func(u *utterance) error {
						if failed == len(places) {
							if err := u.tone(0, framesOf("hello")); err != nil {
								return err
							}
							return u.send(nil, true)
						}
						n := places[failed]
						failed++
						if err := u.tone(0, n); err != nil {
							return err
						}
						return status.Error(codes.Internal, "out of memory")
					})
				}))
			}
			e := startEdge(t, poolConfig(), workers...)
			e.hearTone(e.session("s", session.Params{}), "hello")
			for _, w := range workers {
				if calls := w.heard("Synthesize"); len(calls) != 1 {
					t.Errorf("worker %s got %q, want one", w.name, calls)
				}
			}
		})
	}
}

// The first worker dies with half a frame in the edge's hands; the second cuts
// the same sound elsewhere.
func TestFailoverInTheMiddleOfAFrame(t *testing.T) {
	const total = 15 * session.FrameBytes
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = reader(func(u *utterance) error {
			if err := u.send(tonePCM(3*session.FrameBytes+1001), false); err != nil {
				return err
			}
			return status.Error(codes.Internal, "out of memory")
		})
	})
	b := startWorker(t, "b", func(w *ttsWorker) {
		w.speak = reader(func(u *utterance) error { return sendPieces(u, tonePCM(total), 777) })
	})
	e := startEdge(t, poolConfig(), a, b)
	checkPCM(t, e.hear(e.session("s", voice), "hello"), tonePCM(total))
}

// The client hears the utterance to its end from a worker that failed once,
// when there is no other.
func TestTheOnlyWorkerIsTriedAgain(t *testing.T) {
	attempts := 0
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = func(u *utterance) error {
			if attempts++; attempts == 1 {
				return reader(func(u *utterance) error {
					if err := u.tone(0, 5); err != nil {
						return err
					}
					return status.Error(codes.Internal, "out of memory")
				})(u)
			}
			return speakTone(u)
		}
	})
	e := startEdge(t, poolConfig(), w)
	s := e.session("s", session.Params{})
	e.hearTone(s, "hello")
	if e.failed("a") {
		t.Error("the failure still counts against the worker after it spoke well")
	}
	e.hearTone(s, "again")
}

func TestFramesToSkip(t *testing.T) {
	frames := framesOf("hello")
	for _, skip := range []int{0, 1, 7, frames - 1, frames, frames + 4} {
		for _, failAt := range []int{-1, 0, 3, 10} {
			t.Run(fmt.Sprintf("%d, failing after %d", skip, failAt), func(t *testing.T) {
				a := startWorker(t, "a", func(w *ttsWorker) {
					preferred(w)
					if failAt >= 0 {
						w.speak = reader(func(u *utterance) error {
							if err := u.tone(0, failAt); err != nil {
								return err
							}
							return status.Error(codes.Internal, "out of memory")
						})
					}
				})
				e := startEdge(t, poolConfig(), a, startWorker(t, "b", nil))
				var ear ear
				left := uint64(skip)
				if err := e.session("s", voice).Speak(e.ctx, script("hello"), session.Place{}, &left, ear.emit); err != nil {
					t.Fatal(err)
				}
				checkTone(t, ear.frames, toneHz, min(skip, frames), frames)
				if want := max(0, skip-frames); left != uint64(want) {
					t.Errorf("%d frames are left to skip, want %d", left, want)
				}
			})
		}
	}
}

func TestTheErrorOfEmitEndsTheUtterance(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = reader(func(u *utterance) error {
			if err := u.tone(0, 4); err != nil {
				return err
			}
			return u.hang()
		})
	})
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	errFull := errors.New("the client has gone")
	count := 0
	err := e.speak(e.session("s", voice), "text", func(session.Frame) error {
		if count++; count == 3 {
			return errFull
		}
		return nil
	})
	if !errors.Is(err, errFull) {
		t.Errorf("Speak returned %v, want emit's error", err)
	}
	if count != 3 {
		t.Errorf("emit was called %d times, want 3", count)
	}
	a.await("cancelled s")
	if calls := b.heard(""); len(calls) != 0 {
		t.Errorf("another worker got %q", calls)
	}
	if e.failed("a") {
		t.Error("the client's failure counts against the worker")
	}
}

// A restarted worker has forgotten its sessions.
func TestAWorkerThatForgotTheSessionIsToldAgain(t *testing.T) {
	a := startWorker(t, "a", preferred)
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	e.hearTone(s, "one")
	a.forget()
	e.hearTone(s, "two")
	e.hearTone(s, "three")
	if starts := a.heard("StartSession"); len(starts) != 2 {
		t.Errorf("worker a got %q, want two", starts)
	}
	if calls := b.heard(""); len(calls) != 0 {
		t.Errorf("another worker got %q", calls)
	}
	if e.failed("a") {
		t.Error("the restart counts against the worker")
	}
}

// One that says so every time is of no use.
func TestAWorkerThatNeverKnowsTheSession(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = func(*utterance) error { return status.Error(codes.NotFound, "what session?") }
	})
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	a.forget() // it owes no clean account of sessions
	e.hearTone(e.session("s", voice), "text")
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q, want one", calls)
	}
	if starts := a.heard("StartSession"); len(starts) != 2 {
		t.Errorf("worker a got %q, want two", starts)
	}
}

// It restarted and filled up before the session came back.
func TestAWorkerThatForgotTheSessionAndRefusesIt(t *testing.T) {
	var full atomic.Bool
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.start = func(ctx context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
			if full.Load() {
				return refuse(ctx, r)
			}
			return &proto.StartSessionResponse{Success: true}, nil
		}
	})
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	e.hearTone(s, "one")
	a.forget()
	full.Store(true)
	e.hearTone(s, "two")
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q, want one", calls)
	}
	if e.failed("a") {
		t.Error("a refusal counts as a failure of the worker")
	}
}

// The session has settled on the first worker's model, which the second does
// not have. Another voice is better than none, for the client asked for none.
func TestFailoverToAWorkerWithOtherModels(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		w.caps.ResidentModels, w.models = []string{"x"}, []string{"x"}
	})
	b := startWorker(t, "b", func(w *ttsWorker) {
		w.models = []string{"y"} // loaded when a session asks for it
		w.start = func(_ context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
			known := r.GetModelId() == "" || r.GetModelId() == "y"
			return &proto.StartSessionResponse{Success: known, Message: "there is no model " + r.GetModelId()}, nil
		}
	})
	e := startEdge(t, poolConfig(), a, b)
	e.worker("b").streams.Add(1) // so that a is taken first
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	e.worker("b").streams.Add(-1)
	a.die()
	e.hearTone(s, "two")
	if name, _ := s.Worker(); name != "b" {
		t.Errorf("it was spoken by worker %q", name)
	}
}

// The reference worker and a worker of another make speak the same tone.
func TestFailoverFromTheReferenceWorker(t *testing.T) {
	reference := startReference(t, worker.Tone{})
	b := startWorker(t, "b", nil)
	e := startEdgeAt(t, poolConfig(), Static{reference.announcement(), b.announcement()})
	e.workers = []*ttsWorker{b}
	e.awaitHealthy(2)
	e.worker("b").streams.Add(1) // so that the reference worker is taken first
	s := e.session("s", session.Params{})
	hold := make(chan struct{})
	sp, began := e.start(s, script("a text that is long enough to be cut off in its middle"), hold)
	await(t, "the first frame", began)
	if name, _ := s.Worker(); name != "reference" {
		t.Fatalf("it is spoken by worker %s", name)
	}
	e.worker("b").streams.Add(-1)
	reference.stop()
	close(hold)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("a text that is long enough to be cut off in its middle"))
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q, want one", calls)
	}
}

// A worker, or a proxy before it, may take only so many streams at once: the next
// waits in gRPC, and must not wait for ever.
func TestAStreamThatCannotBeOpenedIsAStall(t *testing.T) {
	release := make(chan struct{})
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.limits = []grpc.ServerOption{grpc.MaxConcurrentStreams(1)}
		w.speak = func(u *utterance) error {
			if u.first.GetText() == "hold" {
				w.record("held")
				select {
				case <-release:
				case <-u.Context().Done():
				}
			}
			return speakTone(u)
		}
		w.excused = true // of the EndSession that waits behind the stream
	})
	b := startWorker(t, "b", nil)
	cfg := poolConfig()
	cfg.StartTimeout = time.Second
	e := startEdge(t, cfg, a, b)
	e.endHealthChecks()
	one, two := e.session("one", voice), e.session("two", voice)
	e.hearTone(one, "a")
	e.hearTone(two, "b")
	e.start(one, script("hold"), nil)
	a.await("held")
	e.hearTone(two, "text")
	close(release)
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q", calls)
	}
}
