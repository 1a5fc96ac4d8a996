package session

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// ear is a Recorder that keeps what frames sounded like.
type ear struct {
	telemetry.Discard
	calls     int
	lateness  time.Duration
	underruns int
}

func (e *ear) Frames(_, lateness *telemetry.Distribution, underruns int) {
	e.calls++
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

func (v saying) Speak(ctx context.Context, script *Script, _ *uint64, emit func(Frame) error) error {
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
	cfg := Config{MaxSessions: 1, MaxMessages: 99, MaxUtterances: 9, MaxUtteranceRunes: 99, QueueFrames: 50, PacingLead: 3 * FrameDuration,
		SlowClientTimeout: time.Hour, IdleTimeout: time.Hour, MaxDuration: time.Hour, PingInterval: time.Hour, ResumeWindow: time.Hour}
	hub := NewHub(cfg, voices, nil, slog.New(slog.DiscardHandler), e)
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
