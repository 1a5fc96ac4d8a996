package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/session"
)

// greeted connects and returns the greeting too.
func (e *edge) greeted(query string) (*client, message) {
	e.t.Helper()
	c, _, err := e.dial(query)
	if err != nil {
		e.t.Fatal(err)
	}
	m := c.next()
	if m.Type != "session_start" {
		e.t.Fatalf("first message: %+v", m)
	}
	return c, m
}

func resumeQuery(start message, after uint64) string {
	return fmt.Sprintf("session=%s&resume_token=%s&after=%d", start.SessionID, start.ResumeToken, after)
}

// resume comes back to the session, of which the frames up to after arrived.
func (e *edge) resume(start message, after uint64) *client {
	e.t.Helper()
	c, m := e.greeted(resumeQuery(start, after))
	if m.SessionID != start.SessionID || m.ResumeToken != start.ResumeToken || !m.Resumed || m.After != after {
		e.t.Fatalf("greeting after %d: %+v", after, m)
	}
	return c
}

func (e *edge) notFound(query string) {
	e.t.Helper()
	_, response, err := e.dial(query)
	if err == nil || response == nil || response.StatusCode != 404 {
		e.t.Fatalf("%s: resumed, or %v", query, err)
	}
}

// Whatever the client had received when its connection was lost, it hears each
// of the rest exactly once, and every utterance's end.
func TestResumeGoesOnBehindAnyFrame(t *testing.T) {
	texts := []string{"abcd", "efg", "hijkl"}
	for after := range uint64(13) {
		e := startEdge(t, testConfig(), nil)
		c, start := e.greeted("pacing=none")
		for _, text := range texts {
			c.say(text, true)
		}
		for range 15 { // all of it was written, but the client will say that it has less
			c.next()
		}
		_ = c.ws.CloseNow()
		c = e.resume(start, after)

		sequence, ended := uint64(0), uint64(0)
		for k, text := range texts {
			for place := range len(text) {
				if sequence++; sequence <= after {
					continue
				}
				m := c.next()
				if m.Type == "utterance_end" && m.Utterance == ended+1 { // one that the client may have missed
					ended++
					m = c.next()
				}
				if m.Sequence != sequence || !bytes.Equal(m.samples, frame(place)) {
					m.samples = nil
					t.Fatalf("after %d: want frame %d: %+v", after, sequence, m)
				}
			}
			if ended == uint64(k) {
				m := c.next()
				must(t, m.Type == "utterance_end" && m.Utterance == uint64(k+1) && m.LastSequence == sequence && m.Reason == "completed",
					"after %d: end of %d: %+v", after, k+1, m)
				ended++
			}
		}
		c.say("xy", true) // and the session speaks on
		c.hear(13, 2, session.Completed)
	}
}

func TestResumeInTheMiddleOfAnUtterance(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("")
	c.say(strings.Repeat("a", 60), true)
	c.say("bcd", true)
	var last uint64
	for range 15 {
		last = c.next().Sequence
	}
	_ = c.ws.CloseNow()
	c = e.resume(start, last)
	for i := last; i < 60; i++ {
		m := c.next()
		must(t, m.Sequence == i+1 && bytes.Equal(m.samples, frame(int(i))), "frame %d: %d", i+1, m.Sequence)
	}
	must(t, c.next().LastSequence == 60, "no end")
	c.hear(61, 3, session.Completed)
	e.noted.mu.Lock()
	defer e.noted.mu.Unlock()
	if want := []string{"cut_off", "cut_off", "completed", "completed"}; !slices.Equal(e.noted.ended, want) {
		t.Errorf("the utterances ended %q, want %q", e.noted.ended, want)
	}
}

func TestResumeWhileTextIsStillComingIn(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("pacing=none")
	c.say("ab", false)
	c.next()
	c.next()
	_ = c.ws.CloseNow()
	c, m := e.greeted(resumeQuery(start, 1))
	must(t, len(m.Utterances) == 1 && m.Utterances[0].Characters == 2 && !m.Utterances[0].IsFinal, "%+v", m)
	c.say("c", true)
	for i := uint64(1); i < 3; i++ {
		m := c.next()
		must(t, m.Sequence == i+1 && bytes.Equal(m.samples, frame(int(i))), "%+v", m)
	}
	must(t, c.next().LastSequence == 3, "no end")
}

func TestResumeKeepsAPause(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("pacing=none")
	c.control(session.Pause)
	c.say("ab", true)
	c.send(`{"type":"ping"}`)
	must(t, c.next().Type == "pong", "no pong")
	_ = c.ws.CloseNow()
	c = e.resume(start, 0)
	c.send(`{"type":"ping"}`)
	must(t, c.next().Type == "pong", "the pause was forgotten")
	c.control(session.Resume)
	c.hear(1, 2, session.Completed)
}

// The client is faster than the edge, which still believes in the old connection.
func TestResumeTakesOverALivingConnection(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 1 // and is not refused for want of its own place
	e := startEdge(t, cfg, nil)
	old, start := e.greeted("")
	old.say(strings.Repeat("a", 40), true)
	for range 5 {
		old.next()
	}
	c := e.resume(start, 5)
	for i := uint64(5); i < 40; i++ {
		must(t, c.next().Sequence == i+1, "frame %d", i+1)
	}
	for told := false; ; {
		m, err := old.read()
		if err != nil {
			must(t, told && websocket.CloseStatus(err) == 1000, "the old connection was told %v", err)
			break
		}
		told = m.Type == "session_end" && m.Reason == "resumed_elsewhere"
	}
}

// A network that breaks again at once leaves the session no time to speak, or
// even to find out what it would.
func TestResumeThatIsLostAtOnce(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for range 50 {
		c, start := e.greeted("")
		c.say(strings.Repeat("a", 30), true)
		for range 5 {
			c.next()
		}
		_ = c.ws.CloseNow()
		for range 3 {
			again, _, err := e.dial(resumeQuery(start, 5))
			must(t, err == nil, "%v", err)
			_ = again.ws.CloseNow()
		}
		c = e.resume(start, 5)
		m := c.next()
		right := m.Sequence == 6 && bytes.Equal(m.samples, frame(5))
		m.samples = nil
		must(t, right, "it went on with %+v", m)
		_ = c.ws.CloseNow()
	}
}

// Tabs, or tries that overtake each other: one of them has the session in the
// end, and none is told that it is gone.
func TestResumesAtOnce(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 100
	e := startEdge(t, cfg, nil)
	for range 20 {
		c, start := e.greeted("")
		c.say(strings.Repeat("a", 30), true)
		c.next()
		_ = c.ws.CloseNow()
		var tries sync.WaitGroup
		var alive atomic.Int32
		for range 4 {
			tries.Go(func() {
				again, response, err := e.dial(resumeQuery(start, 1))
				if err != nil {
					if response == nil || response.StatusCode != 503 {
						t.Errorf("%v", err)
					}
					return
				}
				defer func() { _ = again.ws.CloseNow() }()
				for {
					m, err := again.read()
					if err != nil || m.Type == "session_end" {
						return
					}
					if m.Sequence == 20 { // it goes on
						alive.Add(1)
						_ = again.ws.Close(websocket.StatusNormalClosure, "")
						return
					}
				}
			})
		}
		tries.Wait()
		must(t, alive.Load() == 1, "%d connections have the session", alive.Load())
	}
}

func TestAStrangerLearnsNothing(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("")
	c.say("ab", true)
	c.hear(1, 2, session.Completed)
	wrong := start
	wrong.ResumeToken = "guess"
	e.notFound(resumeQuery(wrong, 2)) // of a living session
	c.send(`{"type":"ping"}`)
	must(t, c.next().Type == "pong", "a wrong token ended the session")
	_ = c.ws.CloseNow()
	eventually(t, "lost", func() bool { return strings.Contains(e.logs.String(), "connection_lost") })
	e.notFound(resumeQuery(wrong, 2))
	_, response, err := e.dial(resumeQuery(start, 3)) // a frame that never was
	must(t, err != nil && response != nil && response.StatusCode == 400, "%v", err)
	for _, part := range []string{"after=2", "resume_token=x", "session=" + start.SessionID, "session=" + start.SessionID + "&resume_token=" + start.ResumeToken} {
		_, response, err := e.dial(part)
		must(t, err != nil && response != nil && response.StatusCode == 400, "%s: %v", part, err)
	}
	e.notFound("session=nothing&resume_token=x&after=0")
	browser, _, err := e.dial(resumeQuery(wrong, 2), withOrigin)
	must(t, err == nil, "%v", err)
	must(t, browser.next().Code == "SESSION_NOT_FOUND", "the browser was not told")
	browser.expectClose(1008, "")
}

func TestWhatIsOverIsNotResumed(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("")
	must(t, c.ws.Close(websocket.StatusNormalClosure, "") == nil, "close")
	e.notFound(resumeQuery(start, 0))

	cfg := testConfig()
	cfg.ResumeWindow = time.Millisecond
	e = startEdge(t, cfg, nil)
	c, start = e.greeted("")
	_ = c.ws.CloseNow()
	eventually(t, "lost", func() bool { return strings.Contains(e.logs.String(), "connection_lost") })
	time.Sleep(2 * time.Millisecond) // let the window pass
	e.notFound(resumeQuery(start, 0))
}

func TestAStoppedUtteranceStaysStopped(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, start := e.greeted("")
	c.say(strings.Repeat("a", 100), true)
	for range 5 {
		c.next()
	}
	c.control(session.Stop)
	c.expect("utterance_end")
	_ = c.ws.CloseNow()
	c = e.resume(start, 3) // the tail of it never arrived, and is no longer wanted
	m := c.next()
	must(t, m.Reason == "stopped" && m.LastSequence == 3, "%+v", m)
	c.say("xy", true)
	c.hear(4, 2, session.Completed)
}

// A worker that fails in the middle of what is skipped must not shift what is heard.
func TestResumeAfterAFailedUtterance(t *testing.T) {
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		err := aFrameARune(ctx, script, emit)
		if text, _, _ := script.Chunk(ctx, 0); err == nil && text == "bad" {
			return errors.New("broken")
		}
		return err
	})
	c, start := e.greeted("pacing=none")
	c.say("bad", true)
	c.say("good", true)
	c.expect("error")
	c.expect("utterance_end")
	c.expect("utterance_end")
	_ = c.ws.CloseNow()
	c = e.resume(start, 5)
	m := c.next()
	must(t, m.Reason == "failed" && m.LastSequence == 3, "%+v", m)
	for i := uint64(5); i < 7; i++ {
		m := c.next()
		must(t, m.Sequence == i+1 && bytes.Equal(m.samples, frame(int(i-3))), "%d", m.Sequence)
	}
}

// Nobody can speak what the client has heard the start of: its end is told, and
// what comes next is heard from its own start.
func TestAFailureWhileSkipping(t *testing.T) {
	var broken atomic.Bool
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		if broken.Load() {
			return errors.New("broken")
		}
		return aFrameARune(ctx, script, emit)
	})
	c, start := e.greeted("pacing=none")
	c.say("abcdef", true)
	for range 6 {
		c.next()
	}
	_ = c.ws.CloseNow()
	broken.Store(true)
	c = e.resume(start, 4)
	c.expect("error")
	m := c.next()
	must(t, m.Reason == "failed" && m.LastSequence == 4, "%+v", m)
	broken.Store(false)
	c.say("xyz", true)
	c.hear(5, 3, session.Completed)
}

// An utterance that was stopped before any worker was given it has no frames,
// and must not be in the way of those that come behind it.
func TestResumeBehindAnUtteranceThatWasNeverSpoken(t *testing.T) {
	release := make(chan struct{})
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		if text, _, _ := script.Chunk(ctx, 0); text == "wait" {
			<-release
			return ctx.Err()
		}
		return aFrameARune(ctx, script, emit)
	})
	c, start := e.greeted("pacing=none")
	c.say("wait", true)
	c.say("never", true)
	c.control(session.Stop)
	c.expect("utterance_end")
	c.expect("utterance_end")
	c.say("abcd", true)
	close(release)
	c.next()
	c.next()
	_ = c.ws.CloseNow()
	c = e.resume(start, 2)
	c.expect("utterance_end")
	c.expect("utterance_end")
	for i := uint64(2); i < 4; i++ {
		m := c.next()
		must(t, m.Sequence == i+1 && bytes.Equal(m.samples, frame(int(i))), "%+v", m.Sequence)
	}
	must(t, c.next().Reason == "completed", "no end")
}

// A STOP while what the client has is still being skipped must not have the
// next utterance skipped instead.
func TestStopWhileSkipping(t *testing.T) {
	var waiting atomic.Bool
	release := make(chan struct{})
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		if waiting.Load() {
			select {
			case <-release:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return aFrameARune(ctx, script, emit)
	})
	c, start := e.greeted("pacing=none")
	c.say("abcdef", false)
	for range 6 {
		c.next()
	}
	_ = c.ws.CloseNow()
	waiting.Store(true)
	c = e.resume(start, 4)
	c.control(session.Stop)
	m := c.expect("utterance_end")
	must(t, m.LastSequence == 4, "%+v", m)
	waiting.Store(false)
	close(release)
	c.say("xyz", true)
	c.hear(5, 3, session.Completed)
}
