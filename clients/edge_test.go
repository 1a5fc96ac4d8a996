package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

// edge is a running pool and the sessions that use it.
type edge struct {
	t        *testing.T
	ctx      context.Context
	pool     *Pool
	log      *logBook
	workers  []*ttsWorker
	speakers []session.Speaker
	running  sync.WaitGroup
	cancel   context.CancelFunc
	closed   sync.Once
}

// poolConfig has times so long that they play no part unless a test makes them
// short.
func poolConfig() PoolConfig {
	return PoolConfig{
		Strategy: LeastLoaded, StartTimeout: patience, FirstFrameTimeout: patience, StallTimeout: patience, RefreshInterval: time.Hour,
	}
}

// startEdge returns an edge to which the workers are known and healthy.
func startEdge(t *testing.T, cfg PoolConfig, workers ...*ttsWorker) *edge {
	t.Helper()
	var source Static
	for _, w := range workers {
		source = append(source, w.announcement())
	}
	e := startEdgeAt(t, cfg, source)
	e.workers = workers
	e.awaitHealthy(len(workers))
	return e
}

func startEdgeAt(t *testing.T, cfg PoolConfig, source Source) *edge {
	t.Helper()
	log := newLogBook()
	e := &edge{t: t, log: log, pool: NewPool(cfg, source, log.logger())}
	e.ctx, e.cancel = context.WithTimeout(context.Background(), patience)
	e.running.Go(func() { e.pool.Run(e.ctx) })
	t.Cleanup(e.close)
	return e
}

// close ends the sessions and the pool, and checks that they leave nothing
// behind at the workers or in the counts.
func (e *edge) close() {
	e.closed.Do(func() {
		e.cancel()
		e.running.Wait()
		for _, s := range e.speakers {
			s.Close()
		}
		known := *e.pool.workers.Load()
		e.pool.Close()
		for _, w := range known {
			if n := w.sessions.Load(); n != 0 {
				e.t.Errorf("worker %s is left with %d sessions", w.Name, n)
			}
			if n := w.streams.Load(); n != 0 {
				e.t.Errorf("worker %s is left with %d streams", w.Name, n)
			}
		}
		for _, w := range e.workers {
			w.checkEnded()
		}
	})
}

// until polls for what no event tells.
func (e *edge) until(what string, condition func() bool) {
	e.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			e.t.Fatalf("it never came about that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (e *edge) awaitHealthy(n int) {
	e.t.Helper()
	e.until("all workers are healthy", func() bool {
		healthy, known := e.pool.Workers()
		return healthy == n && known == n
	})
}

// endHealthChecks leaves the workers healthy: a test that keeps the machine busy
// may make a health check fail, which is not its matter.
func (e *edge) endHealthChecks() {
	for _, w := range *e.pool.workers.Load() {
		w.stop()
		w.done.Wait()
	}
}

// worker returns what the pool knows under the name.
func (e *edge) worker(name string) *Worker {
	e.t.Helper()
	for _, w := range *e.pool.workers.Load() {
		if w.Name == name {
			return w
		}
	}
	e.t.Fatalf("there is no worker %s", name)
	return nil
}

// failed reports whether the worker has failed since it last spoke well.
func (e *edge) failed(name string) bool {
	e.t.Helper()
	return e.worker(name).breaker.rest(time.Time{}) > 0
}

// session opens a session.
func (e *edge) session(name string, params session.Params) session.Speaker {
	s := e.pool.Speaker(name, params, "")
	e.speakers = append(e.speakers, s)
	return s
}

// preferred makes the router take w before any other for a session with the voice.
func preferred(w *ttsWorker) { w.caps.ResidentModels = []string{"voice"} }

var voice = session.Params{Model: "voice"}

func script(text string) *session.Script {
	s := session.NewScript()
	s.Add(text, true)
	return s
}

// ear keeps the frames that it is given.
type ear struct{ frames [][]byte }

func (h *ear) emit(f session.Frame) error {
	h.frames = append(h.frames, bytes.Clone(f.PCM))
	return nil
}

// speak has the text spoken to emit.
func (e *edge) speak(s session.Speaker, text string, emit func(session.Frame) error) error {
	return s.Speak(e.ctx, script(text), session.Place{}, new(uint64), emit)
}

// hear has the text spoken, which must succeed.
func (e *edge) hear(s session.Speaker, text string) [][]byte {
	e.t.Helper()
	var ear ear
	if err := e.speak(s, text, ear.emit); err != nil {
		e.t.Fatalf("%q: %v", text, err)
	}
	return ear.frames
}

// hearTone has the text spoken, which must be the tone, whole and once.
func (e *edge) hearTone(s session.Speaker, text string) {
	e.t.Helper()
	checkTone(e.t, e.hear(s, text), toneHz, 0, framesOf(text))
}

// speech is an utterance that is spoken in the background.
type speech struct {
	ear
	stop context.CancelFunc
	done chan error // yields what Speak returned
}

// start has the text spoken while the test goes on. first is closed at the
// first frame; when hold is not nil, every frame waits for it.
func (e *edge) start(s session.Speaker, text *session.Script, hold <-chan struct{}) (_ *speech, first <-chan struct{}) {
	ctx, cancel := context.WithCancel(e.ctx)
	sp := &speech{stop: cancel, done: make(chan error, 1)}
	began := make(chan struct{})
	e.running.Go(func() {
		defer cancel()
		sp.done <- s.Speak(ctx, text, session.Place{}, new(uint64), func(f session.Frame) error {
			if len(sp.frames) == 0 {
				close(began)
			}
			if hold != nil {
				select {
				case <-hold:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return sp.emit(f)
		})
	})
	return sp, began
}

// await waits for an event that another goroutine announces.
func await[T any](t *testing.T, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(patience):
		t.Fatalf("%s never came about", what)
	}
	return v
}

// checkTone holds frames against the tone engine's frames from..to-1.
func checkTone(t *testing.T, frames [][]byte, hz float64, from, to int) {
	t.Helper()
	if err := toneError(frames, hz, from, to); err != nil {
		t.Fatal(err)
	}
}

// toneError is checkTone for goroutines that are not the test's own.
func toneError(frames [][]byte, hz float64, from, to int) error {
	for i, frame := range frames {
		if from+i >= to || !bytes.Equal(frame, worker.AppendTone(nil, hz, from+i)) {
			return fmt.Errorf("frame %d is not frame %d of %d of the tone", i, from+i, to)
		}
	}
	if len(frames) != to-from {
		return fmt.Errorf("%d frames came, want %d", len(frames), to-from)
	}
	return nil
}

// checkCode wants err to be an error for the client with the code.
func checkCode(t *testing.T, err error, code session.Code) {
	t.Helper()
	problem, ok := errors.AsType[*session.Error](err)
	if !ok {
		t.Fatalf("the error is %v, want one with the code %s", err, code)
	}
	if problem.Code != code {
		t.Errorf("the code is %s, want %s: %v", problem.Code, code, err)
	}
	if problem.Cause == "" || problem.Resolution == "" {
		t.Errorf("cause %q, resolution %q; want both", problem.Cause, problem.Resolution)
	}
}
