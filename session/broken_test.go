package session

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// fragile is a Conn on which the third frame panics, or the write with it fails
// though it has left.
type fragile struct {
	wire
	frames int
	fails  bool
}

func (f *fragile) WriteFrame(p []byte) error {
	if f.frames++; f.frames == 3 && !f.fails {
		panic("as the test wants it")
	}
	return f.wire.WriteFrame(p)
}

func (f *fragile) Uncork() error {
	_ = f.wire.Uncork()
	if f.frames >= 3 && f.fails {
		return errors.New("as the test wants it")
	}
	return nil
}

// speakTo has five frames leave at once: from the speaker, which is behind one
// another, or all together on RESUME.
func speakTo(conn *fragile, together bool, look func(*Hub, *Session)) {
	cfg := roomy
	cfg.PacingLead = 5 * FrameDuration
	hub := NewHub(cfg, fiveFrames{}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
	defer hub.Close()
	s := hub.Open(conn, Opening{Params: Params{Pacing: Realtime}})
	func() {
		defer s.guard()
		if together {
			s.Receive([]byte(`{"type":"control","command":"PAUSE"}`))
		}
		s.Receive([]byte(`{"type":"text","text":"five"}`))
		synctest.Wait()
		if together {
			s.Receive([]byte(`{"type":"control","command":"RESUME"}`))
		}
	}()
	time.Sleep(time.Second) // of synctest's clock
	synctest.Wait()
	look(hub, s)
}

// A panic while frames are gathered leaves none with the connection, and the client
// is told.
func TestAPanicWhileFramesAreGathered(t *testing.T) {
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn := &fragile{}
			speakTo(conn, together, func(_ *Hub, s *Session) {
				defer s.Close()
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.state != Ended || s.gathered != 0 || conn.corked {
					t.Errorf("state %v, %d frames gathered, corked %t", s.state, s.gathered, conn.corked)
				}
				told := fmt.Sprint(conn.writes[len(conn.writes)-2:])
				if told != "[[error] [session_end]]" {
					t.Errorf("the client was told %s in the end", told)
				}
			})
		})
	}
}

// Frames may have left with a write that failed: a client that has them may come
// back for what follows.
func TestFramesOfAFailedWriteMayBeResumedBehind(t *testing.T) {
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn := &fragile{fails: true}
			speakTo(conn, together, func(hub *Hub, s *Session) {
				s.Close()
				if _, problem := hub.Resume(t.Context(), s.id, s.token, "", uint64(conn.frames)); problem != nil {
					t.Errorf("a client with %d frames is told: %v", conn.frames, problem)
				}
			})
		})
	}
}
