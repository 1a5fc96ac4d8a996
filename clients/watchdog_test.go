package clients

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/voxedge/voxedge/session"
)

func TestWatchdog(t *testing.T) {
	cfg := PoolConfig{StartTimeout: 5 * time.Second, FirstFrameTimeout: 10 * time.Second, StallTimeout: 3 * time.Second}
	tests := []struct {
		name    string
		phase   int32
		waited  time.Duration // 0: the edge does not wait for the worker
		healthy bool
		stalled bool
	}{
		{"while the stream is opened", phaseOpen, 4 * time.Second, true, false},
		{"while the stream is opened, too long", phaseOpen, 6 * time.Second, true, true},
		{"while the stream is opened, at a worker that is not healthy", phaseOpen, 2 * time.Second, false, true},
		{"while the text comes in", phaseText, time.Hour, true, false},
		{"while the text comes in, at a worker that is not healthy", phaseText, 2 * time.Second, false, true},
		{"while the text comes in, at a worker that has just ceased to be healthy", phaseText, 500 * time.Millisecond, false, false},
		{"before the first frame", phaseFirst, 9 * time.Second, true, false},
		{"before the first frame, too long", phaseFirst, 11 * time.Second, true, true},
		{"before the first frame, at a worker that is not healthy", phaseFirst, 2 * time.Second, false, true},
		{"between frames", phaseFrames, 2 * time.Second, true, false},
		{"between frames, too long", phaseFrames, 4 * time.Second, true, true},
		{"between frames, at a worker that is not healthy", phaseFrames, 2 * time.Second, false, true},
		{"after the final frame", phaseFinal, 100 * time.Millisecond, true, false},
		{"after the final frame, too long", phaseFinal, time.Second, true, true},
		{"while the client takes nothing", phaseFrames, 0, true, false},
		{"while the client takes nothing, at a worker that is not healthy", phaseFrames, 0, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &Worker{}
			w.state.Store(&workerState{})
			if !tt.healthy {
				w.state.Store(&workerState{err: errUnchecked})
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			d := newWatchdog(w, cfg, new(atomic.Bool), cancel)
			d.close() // the test looks, not the timer
			defer d.close()
			d.phase.Store(tt.phase)
			if d.since.Store(0); tt.waited > 0 {
				d.since.Store(time.Now().Add(-tt.waited).UnixNano())
			}
			d.look()
			if stalled := errors.Is(context.Cause(ctx), errStalled); stalled != tt.stalled {
				t.Errorf("stalled is %t, want %t", stalled, tt.stalled)
			}
		})
	}
}

// The wait for the first frame counts from the end of the text, not from the
// first piece of it.
func TestWatchdogCountsFromTheEndOfTheText(t *testing.T) {
	w := &Worker{}
	w.state.Store(&workerState{})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	d := newWatchdog(w, PoolConfig{FirstFrameTimeout: time.Minute}, new(atomic.Bool), cancel)
	defer d.close()
	d.opened()
	d.since.Store(time.Now().Add(-time.Hour).UnixNano())
	d.textSent()
	d.look()
	if ctx.Err() != nil {
		t.Errorf("it stalled: %v", context.Cause(ctx))
	}
	if limit := d.limit(); limit != time.Minute {
		t.Errorf("after the text the limit is %s", limit)
	}
}

// A look that is under way when the stream ends is the last.
func TestWatchdogEnds(t *testing.T) {
	w := &Worker{}
	w.state.Store(&workerState{})
	_, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	d := newWatchdog(w, PoolConfig{}, new(atomic.Bool), cancel)
	d.close()
	d.look()
	if d.timer.Stop() {
		t.Error("it looks again")
	}
}

// In a pause the worker owes nothing, and after it not what it did not send in it.
func TestWatchdogCountsNoPause(t *testing.T) {
	w := &Worker{}
	w.state.Store(&workerState{})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var paused atomic.Bool
	paused.Store(true)
	d := newWatchdog(w, PoolConfig{StallTimeout: time.Minute}, &paused, cancel)
	d.close()
	defer d.close()
	d.phase.Store(phaseFrames)
	d.since.Store(time.Now().Add(-time.Hour).UnixNano())
	d.look()
	paused.Store(false)
	d.look()
	if ctx.Err() != nil {
		t.Errorf("it stalled: %v", context.Cause(ctx))
	}
	d.since.Store(time.Now().Add(-time.Hour).UnixNano())
	d.look()
	if !errors.Is(context.Cause(ctx), errStalled) {
		t.Error("it does not stall after the pause")
	}
}

// A client that takes its time holds the worker up; that is no stall.
func TestASlowClientIsNoStall(t *testing.T) {
	cfg := poolConfig()
	cfg.StallTimeout = time.Second
	a := startWorker(t, "a", preferred)
	b := startWorker(t, "b", nil)
	e := startEdge(t, cfg, a, b)
	slow := time.After(2 * cfg.StallTimeout)
	var ear ear
	err := e.speak(e.session("s", voice), "text", func(f session.Frame) error {
		if len(ear.frames) == 1 {
			<-slow
		}
		return ear.emit(f)
	})
	if err != nil {
		t.Fatal(err)
	}
	checkTone(t, ear.frames, toneHz, 0, framesOf("text"))
	if calls := b.heard(""); len(calls) != 0 {
		t.Errorf("another worker took over: %q", calls)
	}
}

// A worker that sends a little now and then, and never a whole frame, stalls all
// the same.
func TestADripIsAStall(t *testing.T) {
	cfg := poolConfig()
	cfg.StallTimeout = time.Second
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = reader(func(u *utterance) error {
			for err := u.tone(0, 1); err == nil; err = u.send([]byte{0}, false) {
				select {
				case <-time.After(cfg.StallTimeout / 4):
				case <-u.Context().Done():
				}
			}
			return u.Context().Err()
		})
	})
	b := startWorker(t, "b", nil)
	e := startEdge(t, cfg, a, b)
	e.hearTone(e.session("s", voice), "text")
	if calls := b.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the other worker got %q", calls)
	}
}
