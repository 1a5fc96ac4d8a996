package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// full is a Conn whose socket has no room, until it is waited for.
type full struct {
	wire
	waiting    bool
	flushed    int
	overtaking int    // frames written while something else waited
	meanwhile  func() // happens once, when there is room and nobody knows yet
}

func (f *full) Ping() error   { f.waiting = true; return nil }
func (f *full) Blocked() bool { return f.waiting }

func (f *full) Flush(time.Duration) error {
	meanwhile := f.meanwhile
	f.meanwhile = nil
	if meanwhile != nil {
		time.Sleep(10 * FrameDuration)
	}
	f.waiting = false
	f.flushed++
	if meanwhile != nil {
		meanwhile()
	}
	return nil
}

func (f *full) WriteText(p []byte) error { f.waiting = true; return f.wire.WriteText(p) }

func (f *full) WriteFrame(p []byte) error {
	if f.waiting {
		f.overtaking++
	}
	return f.wire.WriteFrame(p)
}

// A ping or a pong that the socket has not taken does not wait for what is written next.
func TestPingsAndPongsAreFlushed(t *testing.T) {
	for name, write := range map[string]func(*Session, *full){
		"ping": func(s *Session, _ *full) { s.mu.Lock(); s.ping(0); s.mu.Unlock() },
		"pong": func(s *Session, f *full) { f.waiting = true; s.Pinged() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &full{}
				listenTo(saying{}, f, &ear{}, func(s *Session) {
					synctest.Wait()
					f.flushed = 0 // of the greeting
					write(s, f)
					synctest.Wait()
					if f.waiting || f.flushed != 1 {
						t.Errorf("what was written waits: %t; flushed %d times, want once", f.waiting, f.flushed)
					}
				})
			})
		})
	}
}

// Frames wait for what was written just before it was known that there is room.
func TestFramesDoNotOvertakeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &full{}
		listenTo(saying{frames: 100}, f, &ear{}, func(s *Session) {
			synctest.Wait()
			s.Receive([]byte(`{"type":"text","text":"text"}`))
			time.Sleep(time.Second)
			ping := func() { s.Receive([]byte(`{"type":"ping"}`)) }
			f.meanwhile = ping
			ping()
			time.Sleep(time.Second)
			synctest.Wait()
			if f.meanwhile != nil || len(f.writes) < 50 || f.overtaking > 0 {
				t.Errorf("of %d writes, %d frames overtook a message", len(f.writes), f.overtaking)
			}
		})
	})
}
