package session

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// voice says frames, each so long after the one before.
type voice struct {
	fiveFrames
	pauses []time.Duration
}

func (v voice) Speak(ctx context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	for _, pause := range v.pauses {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// often returns n pauses of d.
func often(n int, d time.Duration) []time.Duration {
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = d
	}
	return pauses
}

// An utterance whose frames come too slowly for a tenth of a second leaves in longer
// pieces, until its client has its lead once more and its worker is well ahead. A single
// silence, however long, is no reason.
func TestUtteranceFarBehindLeavesInPieces(t *testing.T) {
	for _, test := range []struct {
		name   string
		pauses [][]time.Duration
		want   string
	}{
		{"slow for less than a tenth of a second",
			[][]time.Duration{often(5, 45*time.Millisecond)},
			strings.Repeat("1 ", 5)},
		{"slow for longer",
			[][]time.Duration{often(6+16, 45*time.Millisecond)},
			strings.Repeat("1 ", 6) + "5 5 5 1 "},
		{"slow, fast, and slow once more",
			[][]time.Duration{often(6+3, 45*time.Millisecond), often(30, 7*time.Millisecond), {time.Second}, often(3, 45*time.Millisecond)},
			strings.Repeat("1 ", 6) + "10 5 5 5 5 3 4 "},
		{"slow, well ahead, and slow once more",
			[][]time.Duration{often(6+3, 45*time.Millisecond), often(60, time.Millisecond), {3 * time.Second}, often(3, 45*time.Millisecond)},
			strings.Repeat("1 ", 6) + "10 5 " + strings.Repeat("1 ", 48+4)},
		{"silent once",
			[][]time.Duration{often(2, 45*time.Millisecond), {5 * time.Second}, often(2, 45*time.Millisecond)},
			strings.Repeat("1 ", 5)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, w := speaking(t, voice{pauses: slices.Concat(test.pauses...)})
				s.mu.Lock()
				w.writes = nil
				s.mu.Unlock()
				s.Receive([]byte(`{"type":"text","text":"speak"}`))
				time.Sleep(time.Minute) // of synctest's clock: all is spoken
				synctest.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				var got strings.Builder
				for _, frames := range w.writes[:len(w.writes)-1] { // but for the utterance's end
					fmt.Fprintf(&got, "%d ", len(frames))
				}
				if got.String() != test.want {
					t.Errorf("it left in pieces of %s, want %s", got.String(), test.want)
				}
			})
		})
	}
}

// voices says one after another what each of them says.
type voices struct {
	fiveFrames
	next []voice
}

func (v *voices) Speaker(string, Params, string) Speaker { return v }

func (v *voices) Speak(ctx context.Context, script *Script, from Place, skip *uint64, emit func(Frame) error) error {
	now := v.next[0]
	v.next = v.next[1:]
	return now.Speak(ctx, script, from, skip, emit)
}

// speaking opens a session that will hear these voices, one an utterance, with a lead of
// ten frames.
func speaking(t *testing.T, next ...voice) (*Session, *timedWire) {
	t.Helper()
	cfg := roomy
	cfg.PacingLead = 10 * FrameDuration
	return opened(t, cfg, &voices{next: next})
}

// opened is a paced session.
func opened(t *testing.T, cfg Config, v Voices) (*Session, *timedWire) {
	t.Helper()
	hub := NewHub(cfg, v, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
	t.Cleanup(hub.Close)
	if err := hub.Admit(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Leave)
	w := &timedWire{began: time.Now()}
	s := hub.Open(w, Opening{Params: Params{Pacing: Realtime}})
	t.Cleanup(s.Close)
	return s, w
}

// What was held back of one utterance does not hold up the next, after its end or STOP.
func TestNextUtteranceIsNotHeldBack(t *testing.T) {
	for _, stop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			slow := often(7, 45*time.Millisecond) // the last is held back
			if stop {
				slow = append(slow, time.Hour)
			}
			s, w := speaking(t, voice{pauses: slow}, voice{pauses: often(20, time.Millisecond)})
			s.Receive([]byte(`{"type":"text","text":"slow"}`))
			time.Sleep(7*45*time.Millisecond + time.Millisecond)
			if stop {
				s.Receive([]byte(`{"type":"control","command":"STOP"}`))
			}
			s.Receive([]byte(`{"type":"text","text":"fast"}`))
			time.Sleep(time.Minute) // all is spoken
			synctest.Wait()
			s.mu.Lock()
			left := fmt.Sprint(w.left[6:])
			s.mu.Unlock()
			want := "[320:10 340:1 360:1 380:1 400:1 420:1 440:1 460:1 480:1 500:1 520:1 540:1]"
			if stop {
				want = "[320:10 340:1 360:1 380:1 400:1 420:1 440:1 460:1 480:1 500:1 520:1]"
			}
			if left != want {
				t.Errorf("after STOP: %t: frames left, by millisecond, %s, want %s", stop, left, want)
			}
		})
	}
}

// A client whose text comes late waits for that, and for nothing else.
func TestLateTextIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := often(7, 45*time.Millisecond)
		burst := append([]time.Duration{time.Second}, often(2, 45*time.Millisecond)...)
		s, w := speaking(t, voice{pauses: slices.Concat(slow, burst, burst)})
		s.Receive([]byte(`{"type":"text","text":"one","is_final":false}`))
		time.Sleep(7*45*time.Millisecond + 990*time.Millisecond)
		s.Receive([]byte(`{"type":"text","text":"two","is_final":false}`))
		time.Sleep(1090 * time.Millisecond)
		s.Receive([]byte(`{"type":"text","text":"three","is_final":false}`))
		time.Sleep(time.Minute)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if got, want := fmt.Sprint(w.left[len(w.left)-6:]), "[1320:1 1360:1 1400:1 2400:1 2460:1 2500:1]"; got != want {
			t.Errorf("frames of the late texts left, by millisecond, %s, want %s", got, want)
		}
	})
}

// A fault while a session ends is told of as its end, and ends nothing else.
func TestFaultWhileASessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := NewHub(roomy, fiveFrames{}, nil, nil, slog.New(slog.DiscardHandler), faulty{})
		defer hub.Close()
		if err := hub.Admit(); err != nil {
			t.Fatal(err)
		}
		defer hub.Leave()
		s := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
		s.Receive([]byte(`{"type":"control","command":"PAUSE"}`))
		s.Receive([]byte(`{"type":"text","text":"five"}`))
		synctest.Wait()
		func() {
			defer s.guard()
			s.Lost(context.Canceled)
		}()
		s.Close()
	})
}

// faulty is a recorder that fails when it is told of an utterance's end.
type faulty struct{ telemetry.Discard }

func (faulty) UtteranceEnded(string, int) { panic("as the test wants it") }
