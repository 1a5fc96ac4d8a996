package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/clients"
)

// However many connections ask for it at once, and unpaced, they hear no more than
// the day has: at worst each edge speaks all of so short a day before it is told of
// the other, and each session 200 ms.
func TestAttackTheDaysAudio(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	var urls []string
	for range 2 {
		edge, url := s.edge("ADDRESS_AUDIO_SECONDS_PER_DAY=5")
		edge.await(1, "worker is healthy")
		urls = append(urls, url+"/v1/stream?pacing=none")
	}
	const listeners = 10
	var frames atomic.Int64
	var all sync.WaitGroup
	for i := range listeners {
		c := connect(t, urls[i%2])
		all.Go(func() {
			for range 3 {
				c.say(strings.Repeat("a", 9600))
			}
			for told := 0; told < 3; { // of each text
				m, err := c.read()
				switch {
				case err != nil:
					t.Errorf("the session is over: %v", err)
					return
				case m.Type == "audio":
					frames.Add(1)
				case m.Type == "utterance_end" && m.Reason != "failed":
					t.Errorf("an utterance of minutes is %s", m.Reason)
				case m.Type == "error":
					told++
					if m.Code != "RATE_LIMITED" || !strings.Contains(m.Message, "5 seconds of audio a day") || !strings.Contains(m.Message, "Try again in") {
						t.Errorf("it is told %s: %q", m.Code, m.Message)
					}
				}
			}
			c.send(map[string]any{"type": "ping"})
			for m := c.next(); m.Type != "pong"; m = c.next() { // the session lives
			}
		})
	}
	all.Wait()
	heard := time.Duration(frames.Load()) * 20 * time.Millisecond
	if most := 2*5*time.Second + listeners*200*time.Millisecond; heard < 4*time.Second || heard > most {
		t.Errorf("%s were heard of five seconds, want at most %s", heard, most)
	}
}

// A client whose edge was killed is not refused for want of the place that the
// dead edge still holds for it.
func TestAttackPlacesOfADeadEdge(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	dying, url := s.edge("ADDRESS_MAX_CONNECTIONS=1")
	other, url2 := s.edge("ADDRESS_MAX_CONNECTIONS=1")
	dying.await(1, "worker is healthy")
	other.await(1, "worker is healthy")
	c := connect(t, url)
	c.say("Hello.")
	c.hearUtterance(0)
	awaitKey(t, s.redis, clients.JournalPrefix+c.start.SessionID)
	dying.kill()
	dying.forgive()
	if _, _, err := websocket.Dial(c.ctx, url2, nil); err == nil { //nolint:bodyclose // Dial has read it
		t.Error("a second session was not refused")
	}
	resumed := connect(t, fmt.Sprintf("%s/?session=%s&resume_token=%s&after=0", url2, c.start.SessionID, c.start.ResumeToken))
	if resumed.start.SessionID != c.start.SessionID {
		t.Errorf("%+v", resumed.start)
	}
}
