package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// full is a Conn whose socket has no room for a ping or a pong, until it is waited for.
type full struct {
	wire
	waiting bool
	flushed int
}

func (f *full) Ping() error   { f.waiting = true; return nil }
func (f *full) Blocked() bool { return f.waiting }

func (f *full) Flush(time.Duration) error {
	f.waiting = false
	f.flushed++
	return nil
}

// A ping or a pong that the socket has not taken does not wait for what is written next.
func TestPingsAndPongsAreFlushed(t *testing.T) {
	for name, write := range map[string]func(*Session, *full){
		"ping": func(s *Session, _ *full) { s.mu.Lock(); s.ping(time.Now()); s.mu.Unlock() },
		"pong": func(s *Session, f *full) { f.waiting = true; s.Pinged() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &full{}
				listenTo(saying{}, f, &ear{}, func(s *Session) {
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
