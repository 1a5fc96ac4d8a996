package session

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// ear is a Recorder that keeps what frames sounded like.
type ear struct {
	telemetry.Discard
	mu             sync.Mutex // of what it hears of many sessions
	calls          int
	wait, lateness time.Duration
	underruns      int
}

func (e *ear) Frames(waits, lateness *telemetry.Distribution, underruns int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	e.wait = max(e.wait, waits.Max)
	e.lateness = max(e.lateness, lateness.Max)
	e.underruns += underruns
}

// stubborn is a Conn that takes nothing for three seconds after its tenth frame.
type stubborn struct {
	wire
	frames  int
	blocked bool
}

func (s *stubborn) WriteFrame(p []byte) error {
	if s.frames++; s.frames == 10 {
		s.blocked = true
	}
	return s.wire.WriteFrame(p)
}

func (s *stubborn) Blocked() bool { return s.blocked }

func (s *stubborn) Flush(time.Duration) error {
	time.Sleep(3 * time.Second)
	s.blocked = false
	return nil
}

// saying is a voice that has so many frames to say to anything, and waits before
// each for the script's next piece when it is told to.
type saying struct {
	fiveFrames
	frames int
	pieces bool
}

func (v saying) Speaker(string, Params, string) Speaker { return v }

func (v saying) Speak(ctx context.Context, script *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	for i := range v.frames {
		if v.pieces {
			if _, _, err := script.Chunk(ctx, i); err != nil {
				return err
			}
		}
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// listenTo has a session of the voice speak, to the conn and the ear.
func listenTo(voices Voices, conn Conn, e *ear, talk func(*Session)) {
	hub := NewHub(roomy, voices, nil, nil, slog.New(slog.DiscardHandler), e)
	defer hub.Close()
	s := hub.Open(conn, Opening{Params: Params{Pacing: Realtime}})
	defer s.Close()
	talk(s)
}

// What a long utterance sounds like is known before it is over.
func TestALongUtteranceIsHeardOfMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ear
		listenTo(saying{frames: 3*handOn + 1}, &wire{}, &e, func(s *Session) {
			s.Receive([]byte(`{"type":"text","text":"long"}`))
			time.Sleep(2*handOn*FrameDuration + time.Second)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if e.calls != 2 {
				t.Errorf("it is heard of %d times, want 2", e.calls)
			}
		})
	})
}

// That a client took nothing does not make the edge late.
func TestAClientThatTakesNothingIsNotTheEdgesLateness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ear
		listenTo(saying{frames: 100}, &stubborn{}, &e, func(s *Session) {
			s.Receive([]byte(`{"type":"text","text":"text"}`))
			time.Sleep(10 * time.Second)
			synctest.Wait()
		})
		if e.calls == 0 || e.lateness > FrameDuration {
			t.Errorf("after %d calls the worst lateness is %s", e.calls, e.lateness)
		}
	})
}

// Note is taken of many frames at once, but of none late: what is not noted is
// lost when the edge is killed.
func TestNoteIsTakenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unnoted := func(s *Session) int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.queue.unnoted
		}
		listenTo(saying{frames: 200}, &wire{}, &ear{}, func(s *Session) {
			s.Receive([]byte(`{"type":"text","text":"text"}`))
			most := 0
			for range 50 {
				time.Sleep(FrameDuration)
				synctest.Wait()
				most = max(most, unnoted(s))
			}
			if most == 0 || most >= noteEvery {
				t.Errorf("at most %d frames were not noted, want some, and fewer than %d", most, noteEvery)
			}
			s.Receive([]byte(`{"type":"control","command":"PAUSE"}`))
			time.Sleep(FrameDuration)
			synctest.Wait()
			if n := unnoted(s); n != 0 {
				t.Errorf("while it is paused, %d frames are not noted", n)
			}
		})
		listenTo(saying{frames: 3, pieces: true}, &wire{}, &ear{}, func(s *Session) {
			s.Receive([]byte(`{"type":"text","text":"a","is_final":false}`))
			synctest.Wait()
			if n := unnoted(s); s.sequence == 0 || n != 0 {
				t.Errorf("while the worker has nothing to say, %d of %d frames are not noted", n, s.sequence)
			}
		})
	})
}

// The wall clock is read with the delays of a busy machine, and may be set.
func TestTheWallClockIsTheOneReadBest(t *testing.T) {
	var w wall
	const began, second = int64(1_700_000_000e9), int64(time.Second)
	for i, r := range []struct{ reading, known int64 }{
		{began, began}, {began - 5e6, began}, {began + 20, began + 20}, {began, began + 20},
		{began + second, began + second}, {began + second - 3e6, began + second},
		{began - second, began - second}, {began - second - 1, began - second},
	} {
		if got := w.took(r.reading); got != r.known {
			t.Errorf("%d: after %d it is %d, want %d", i, r.reading, got, r.known)
		}
	}
}

// A client that has played all there is, because it sent no more text, has heard no gap.
func TestWaitingForTextIsNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ear
		listenTo(saying{frames: 3, pieces: true}, &wire{}, &e, func(s *Session) {
			for _, text := range []string{`{"type":"text","text":"a","is_final":false}`, `{"type":"text","text":"b","is_final":false}`, `{"type":"text","text":"c"}`} {
				s.Receive([]byte(text))
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
		})
		if e.calls == 0 || e.underruns != 0 {
			t.Errorf("after %d calls there are %d gaps", e.calls, e.underruns)
		}
	})
}

// purse is an Allowance of some audio.
type purse struct{ left time.Duration }

func (*purse) Text(context.Context, int) *Error { return nil }

func (p *purse) Spoken(audio time.Duration) *Error {
	if p.left -= audio; p.left < 0 {
		return Errorf(RateLimited, "Come back tomorrow", "the day is used up")
	}
	return nil
}

// listenAllowed has a hub whose voice has so many frames to say to anything.
func listenAllowed(a Allowance, pacing Pacing, talk func(*Hub, Opening), frames int) {
	hub := NewHub(roomy, again{saying{frames: frames}}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
	defer hub.Close()
	talk(hub, Opening{Params: Params{Pacing: pacing}, Allowance: a})
}

// again is a voice that leaves out what is to be skipped.
type again struct{ saying }

func (v again) Speaker(string, Params, string) Speaker { return v }

func (v again) Speak(ctx context.Context, script *Script, from Place, skip *uint64, emit func(Frame) error) error {
	return v.saying.Speak(ctx, script, from, skip, func(f Frame) error {
		if *skip > 0 {
			*skip--
			return nil
		}
		return emit(f)
	})
}

// A client hears no more than it may, whether it asks for it in one utterance or
// in many; then it is told, and its session lives.
func TestADayThatIsUsedUpEndsWhatIsSpoken(t *testing.T) {
	for _, pacing := range []Pacing{Realtime, Unpaced} {
		synctest.Test(t, func(t *testing.T) {
			w, p := &wire{}, &purse{3 * time.Second}
			listenAllowed(p, pacing, func(hub *Hub, o Opening) {
				s := hub.Open(w, o)
				defer s.Close()
				for range 3 {
					s.Receive([]byte(`{"type":"text","text":"text"}`))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				s.Receive([]byte(`{"type":"ping"}`))
			}, 100)
			said := map[string]int{}
			for _, write := range w.writes {
				for _, kind := range write {
					said[kind]++
				}
			}
			// Three seconds are the first utterance, of two, and half the second.
			if said["audio"] < 150 || said["audio"] > 150+chargeEvery {
				t.Errorf("%s: %d frames of 150", pacing, said["audio"])
			}
			if said["utterance_end"] != 3 || said["error"] != 2 || said["pong"] != 1 {
				t.Errorf("%s: it is told %v", pacing, said)
			}
		})
	}
}

// What is spoken is charged to the frame, however short it is.
func TestShortUtterancesAreCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purse{time.Hour}
		listenAllowed(p, Unpaced, func(hub *Hub, o Opening) {
			s := hub.Open(&wire{}, o)
			defer s.Close()
			s.Receive([]byte(`{"type":"text","text":"text"}`))
			time.Sleep(time.Minute)
			synctest.Wait()
		}, 13)
		if spoken := time.Hour - p.left; spoken != 13*FrameDuration {
			t.Errorf("%s of 13 frames are charged", spoken)
		}
	})
}

// Frames that a worker speaks again for a client that has come back cost as much
// as those that it hears.
func TestWhatIsSpokenAgainIsCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &purse{time.Hour}
		listenAllowed(p, Unpaced, func(hub *Hub, o Opening) {
			s := hub.Open(&wire{}, o)
			s.Receive([]byte(`{"type":"text","text":"text"}`))
			s.Receive([]byte(`{"type":"text","text":"never over","is_final":false}`))
			time.Sleep(time.Minute)
			synctest.Wait()
			id, token := s.id, s.token
			s.Lost(context.Canceled)
			s.Close()
			p.left = time.Hour
			resumed, problem := hub.Resume(context.Background(), id, token, "", 40)
			if problem != nil {
				t.Fatal(problem)
			}
			o.Resumed = resumed
			s = hub.Open(&wire{}, o)
			defer s.Close()
			time.Sleep(time.Minute)
			synctest.Wait()
		}, 100)
		if spoken := time.Hour - p.left; spoken != 200*FrameDuration {
			t.Errorf("%s of 160 frames and 40 left out are charged", spoken)
		}
	})
}
