package handlers_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// bothWays runs the test with frames sent by io_uring, and with a system call each.
func bothWays(t *testing.T, test func(t *testing.T)) {
	ring := newSender
	t.Run("io_uring", func(t *testing.T) {
		if ring == nil {
			t.Skip("this system has no io_uring for us")
		}
		test(t)
	})
	t.Run("write", func(t *testing.T) {
		newSender = nil
		defer func() { newSender = ring }()
		test(t)
	})
}

// Clients come and go in the middle of their frames, so that descriptors change
// hands all the time: nobody hears a frame of somebody else's, or misses one.
func TestFramesReachTheirOwnClientWhileOthersComeAndGo(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxSessions = 100
		e := startEdge(t, cfg, nil)
		var steady, fleeting sync.WaitGroup
		over := make(chan struct{})
		for range 8 {
			c := e.connect("", withBinary)
			steady.Go(func() {
				for sequence := uint64(1); sequence <= 200; sequence += 100 {
					c.say(strings.Repeat("s", 100), true)
					if err := c.hears(sequence, 100, true); err != nil {
						t.Error(err)
						return
					}
				}
			})
			fleeting.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					c, _, err := e.dial("", withBinary)
					if err == nil {
						_, err = c.read() // session_start
					}
					if err == nil {
						c.say(strings.Repeat("f", 50), true)
						err = c.hears(1, 12, false) // two more than the lead
					}
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.ws.CloseNow()
				}
			})
		}
		steady.Wait()
		close(over)
		fleeting.Wait()
	})
}

// hears takes the frames of an utterance that begins with the sequence from, and
// its end if that is to follow.
func (c *client) hears(from uint64, frames int, whole bool) error {
	for i := range frames {
		m, err := c.read()
		if err != nil {
			return err
		}
		if m.Type != "audio" || m.Sequence != from+uint64(i) || !bytes.Equal(m.samples, frame(i)) {
			m.samples = nil
			return fmt.Errorf("place %d of the utterance: %+v", i, m)
		}
	}
	if !whole {
		return nil
	}
	if m, err := c.read(); err != nil || m.Type != "utterance_end" || m.LastSequence != from+uint64(frames)-1 {
		return fmt.Errorf("the end of the utterance: %+v, %w", m, err)
	}
	return nil
}
