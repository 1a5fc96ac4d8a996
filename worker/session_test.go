package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// throughGate passes the session's gate in the background and sends what the
// gate said.
func throughGate(ctx context.Context, t *ttsSession) <-chan error {
	passed := make(chan error, 1)
	go func() { passed <- t.gate(ctx) }()
	return passed
}

func isOpen(passed <-chan error) bool {
	synctest.Wait()
	select {
	case err := <-passed:
		return err == nil
	default:
		return false
	}
}

func TestGateHoldsWhileTheSessionIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTTSSession("tone", nil)
		if !isOpen(throughGate(t.Context(), s)) {
			t.Fatal("a session that is not paused is held")
		}
		s.resume() // of what is not paused: nothing
		s.pause()
		passed := throughGate(t.Context(), s)
		if isOpen(passed) {
			t.Fatal("a frame passed in a pause")
		}
		s.pause() // twice is once
		s.resume()
		if !isOpen(passed) {
			t.Fatal("the frame is still held after RESUME")
		}
		s.pause()
		passed = throughGate(t.Context(), s)
		if isOpen(passed) {
			t.Fatal("a frame passed in the second pause")
		}
		s.resume()
		synctest.Wait()
	})
}

func TestGateEndsWithItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTTSSession("tone", nil)
		ctx, cancel := context.WithCancel(t.Context())
		s.pause()
		passed := throughGate(ctx, s)
		synctest.Wait()
		cancel()
		if err := <-passed; !errors.Is(err, context.Canceled) {
			t.Errorf("the gate said %v to a stream that has ended", err)
		}
		s.resume()
		if err := s.gate(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the open gate said %v to a stream that has ended", err)
		}
	})
}

func TestStopEndsTheStreamsAndThePause(t *testing.T) {
	s := newTTSSession("tone", nil)
	s.pause()
	ctx, end := s.stream(t.Context())
	s.stop()
	if !errors.Is(context.Cause(ctx), errStopped) {
		t.Errorf("the stream's cause is %v, want that it was stopped", context.Cause(ctx))
	}
	end()

	next, end := s.stream(t.Context())
	defer end()
	if err := s.gate(next); err != nil {
		t.Errorf("the gate says %v to the utterance after a STOP", err)
	}
}

// An edge that works must not lose its place at a full worker, however long it
// speaks.
func TestSessionIsIdleOnlyBetweenUtterances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where time stands still
		s := newTTSSession("tone", nil)
		later := time.Now().Add(time.Hour)
		if idle := s.idleSince(later); idle != time.Hour {
			t.Errorf("a session that never spoke is idle for %s, want an hour", idle)
		}
		_, endFirst := s.stream(t.Context())
		_, endSecond := s.stream(t.Context())
		endFirst()
		if idle := s.idleSince(later); idle != 0 {
			t.Errorf("a session that speaks is idle for %s", idle)
		}
		s.active = time.Time{} // long ago: the end must set it anew
		endSecond()
		if idle := s.idleSince(later); idle != time.Hour {
			t.Errorf("idle for %s since the utterance's end, want an hour", idle)
		}
	})
}
