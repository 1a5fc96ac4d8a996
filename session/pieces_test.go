package session

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A piece does not wait for frames that its speaker, which rests, does not read: here the
// sixth of a piece's time came alone, just before the client had nothing left.
func TestPieceDoesNotWaitForASpeakerThatRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pauses := slices.Concat(
			often(6+5, 45*time.Millisecond), // far behind, and a piece of five, 200 ms after its first
			often(1, 42*time.Millisecond), often(1, 13*time.Millisecond), often(3, 18*time.Millisecond), often(1, 9*time.Millisecond),
			often(30, 3*time.Millisecond))
		s, w := speaking(t, voice{pauses: pauses})
		s.Receive([]byte(`{"type":"text","text":"speak"}`))
		time.Sleep(time.Minute) // of synctest's clock: all is spoken
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, left := range w.left[7:] {
			if pause := left.millis - w.left[6+i].millis; pause > 120 {
				t.Errorf("nothing left for %d ms before %v of %v", pause, left, w.left)
			}
		}
	})
}

// Whatever lead and queue there are, all that is spoken by a worker that is slow, then fast,
// leaves, and nobody waits for longer than a piece.
func TestPiecesOfAllSizesLeave(t *testing.T) {
	for _, test := range []struct{ lead, queue, interval int }{
		{2, 2, 1}, {3, 3, 1}, {6, 6, 3}, {10, 10, 1}, {10, 50, 1}, {10, 50, 3}, {50, 50, 1}, {50, 3000, 3},
	} {
		for _, then := range []time.Duration{time.Millisecond, 19 * time.Millisecond, 20 * time.Millisecond, 23 * time.Millisecond, 150 * time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				cfg := roomy
				cfg.PacingLead, cfg.QueueFrames, cfg.PacingInterval = time.Duration(test.lead)*FrameDuration, test.queue, time.Duration(test.interval)*FrameDuration
				pauses := slices.Concat(often(40, 45*time.Millisecond), often(100, then), often(10, time.Millisecond))
				s, w := opened(t, cfg, &voices{next: []voice{{pauses: pauses}}})
				s.Receive([]byte(`{"type":"text","text":"speak"}`))
				time.Sleep(5 * time.Second)
				s.Receive([]byte(`{"type":"control","command":"PAUSE"}`))
				time.Sleep(5 * time.Second)
				s.Receive([]byte(`{"type":"control","command":"RESUME"}`))
				time.Sleep(time.Minute) // all is spoken
				synctest.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.sequence != uint64(len(pauses)) || s.state != Idle {
					t.Errorf("lead %d, queue %d, interval %d, then one every %s: %d frames of %d have left, and it is %s", test.lead, test.queue, test.interval, then, s.sequence, len(pauses), s.state)
				}
				for i, left := range w.left[1:] {
					pause := time.Duration(left.millis-w.left[i].millis) * time.Millisecond
					if most := then + longestPiece + 2*FrameDuration; pause > most && pause < 4*time.Second {
						t.Errorf("lead %d, queue %d, interval %d, then one every %s: nothing left for %s before %v", test.lead, test.queue, test.interval, then, pause, left)
					}
				}
			})
		}
	}
}
