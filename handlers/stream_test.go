package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/voxedge/voxedge/session"
)

func TestSessionStartComesAtOnce(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c, _, err := e.dial("")
	must(t, err == nil, "%v", err)
	m := c.next()
	_, err = uuid.Parse(m.SessionID)
	must(t, m.Type == "session_start" && err == nil && m.ResumeToken != "" && m.SampleRate == 48000 && m.FrameMillis == 20 &&
		m.Encoding == "pcm_s16le", "%+v", m)
}

func TestUtterancesAreSpokenInOrder(t *testing.T) {
	for _, query := range []string{"", "pacing=none"} {
		e := startEdge(t, testConfig(), nil)
		c := e.connect(query)
		c.say(strings.Repeat("a", 25), true)
		c.say("bcd", true)
		c.say("e", true)
		m1 := c.hear(1, 25, session.Completed)
		m2 := c.hear(26, 3, session.Completed)
		m3 := c.hear(29, 1, session.Completed)
		must(t, m1.Utterance == 1 && m2.Utterance == 2 && m3.Utterance == 3, "%+v %+v %+v", m1, m2, m3)
	}
}

// An utterance that waits for another is not slow for that.
func TestFirstAudioIsFromTheUtterancesTurn(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.say(strings.Repeat("a", 50), true)
	c.say("b", true)
	began := time.Now()
	c.hear(1, 50, session.Completed)
	waited := time.Since(began)
	c.hear(51, 1, session.Completed)
	e.noted.mu.Lock()
	defer e.noted.mu.Unlock()
	must(t, len(e.noted.firstAudio) == 2 && e.noted.firstAudio[1] < waited, "first audio: %v; the second waited %s for the first", e.noted.firstAudio, waited)
}

func TestPartialTextIsOneUtterance(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("pacing=none")
	c.say("ab", false)
	for i := range 2 { // spoken while the utterance is open
		if m := c.next(); !bytes.Equal(m.samples, frame(i)) {
			t.Fatalf("place %d: %+v", i, m)
		}
	}
	c.say("", false) // a language model's tokens may be empty
	c.say("c", false)
	c.say("", true) // an empty text may end it
	m := c.next()
	must(t, m.Sequence == 3 && bytes.Equal(m.samples, frame(2)), "%+v", m)
	m = c.next()
	must(t, m.Type == "utterance_end" && m.LastSequence == 3, "%+v", m)
}

func TestBinaryProtocol(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("pacing=none", withBinary)
	must(t, c.ws.Subprotocol() == session.BinaryProtocol, "subprotocol %q", c.ws.Subprotocol())
	c.say("hello", true)
	c.hear(1, 5, session.Completed)
}

func TestPingIsAnswered(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.send(`{"type":"ping","id":{"n":[1,"x"]}}`)
	m := c.next()
	must(t, m.Type == "pong" && string(m.ID) == `{"n":[1,"x"]}` && time.Since(time.UnixMilli(m.ServerTime)).Abs() < time.Hour, "%+v", m)
}

// What is wrong with a message is answered, and the session goes on as it was:
// in the middle of an utterance it speaks on.
func TestABadMessageIsAnsweredAndTheSessionKeepsItsState(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("pacing=none")
	c.say("ab", false)
	c.next()
	c.next()
	for _, bad := range []string{
		`{"type":`, `[]`, `{"type":"sing"}`, `{"type":"text","Text":"x"}`, `{"type":"control","command":"DANCE"}`,
		`{"type":"text","text":"` + strings.Repeat("x", 10_001) + `"}`,
	} {
		c.send(bad)
		m := c.next()
		must(t, m.Type == "error" && m.Code == "INVALID_MESSAGE" && m.Message != "", "%.40s: %+v", bad, m)
	}
	c.say("c", true)
	m := c.next()
	must(t, m.Sequence == 3 && bytes.Equal(m.samples, frame(2)), "%+v", m)
	must(t, c.next().Type == "utterance_end", "no end")
	for _, final := range []bool{true, false} {
		c.say("", final) // nothing is open now, so an empty text is a mistake
		m = c.next()
		must(t, m.Code == "INVALID_MESSAGE", "%+v", m)
	}
}

func TestDataOfTheWrongKindCloses(t *testing.T) {
	for _, test := range []struct {
		name string
		kind websocket.MessageType
		data []byte
		code websocket.StatusCode
		end  string
	}{
		{"binary", websocket.MessageBinary, []byte(`{"type":"ping"}`), 1003, "unsupported_data"},
		{"not UTF-8", websocket.MessageText, []byte("{\"type\":\"text\",\"text\":\"\xff\"}"), 1007, "invalid_utf8"},
		{"2 MB", websocket.MessageText, bytes.Repeat([]byte("a"), 2<<20), 1009, "message_too_large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := startEdge(t, testConfig(), nil)
			c := e.connect("")
			go func() { _ = c.ws.Write(c.ctx, test.kind, test.data) }() // the edge may close before it has read all
			m := c.next()
			must(t, m.Type == "error" && m.Code == "INVALID_MESSAGE", "%+v", m)
			c.expectClose(test.code, test.end)
		})
	}
}

func TestPauseHoldsAndResumeGoesOnWithTheVeryNextFrame(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.say(strings.Repeat("a", 40), true)
	for i := range 5 {
		must(t, c.next().Sequence == uint64(i+1), "frame %d", i)
	}
	c.control(session.Pause)
	c.send(`{"type":"ping"}`)
	last := uint64(5)
	for m := c.next(); m.Type != "pong"; m = c.next() { // frames written before the PAUSE was read
		last = m.Sequence
	}
	// Now it is held: another round trip, long after the next frame was due, brings none.
	time.Sleep(10 * session.FrameDuration)
	c.send(`{"type":"ping"}`)
	m := c.next()
	must(t, m.Type == "pong", "while paused: %+v", m.Type)
	c.control(session.Resume)
	for i := last; i < 40; i++ {
		m := c.next()
		must(t, m.Sequence == i+1 && bytes.Equal(m.samples, frame(int(i))), "after RESUME: %d", m.Sequence)
	}
	must(t, c.next().Reason == "completed", "no end")
}

func TestStopIsSilenceAndTheTrueLastSequence(t *testing.T) {
	cancelled := make(chan struct{}, 3)
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		err := aFrameARune(ctx, script, emit)
		if ctx.Err() != nil {
			cancelled <- struct{}{}
		}
		return err
	})
	c := e.connect("")
	c.say(strings.Repeat("a", 1000), true)
	c.say("queued", true)
	c.say("open", false)
	for range 12 {
		c.next()
	}
	c.control(session.Stop)
	var last uint64
	var m message
	for m = c.next(); m.Type == "audio"; m = c.next() {
		last = m.Sequence
	}
	<-cancelled
	for k := uint64(1); k <= 3; k++ {
		must(t, m.Type == "utterance_end" && m.Utterance == k && m.Reason == "stopped" && m.LastSequence >= last, "%d: %+v", last, m)
		last = m.LastSequence
		if k < 3 {
			m = c.next()
		}
	}
	c.say("xyz", true)
	c.hear(last+1, 3, session.Completed)
	e.voices.mu.Lock()
	defer e.voices.mu.Unlock()
	must(t, len(e.voices.controls) == 1 && e.voices.controls[0] == session.Stop, "controls %v", e.voices.controls)
}

func TestAPauseBeforeAnythingHoldsWhatComes(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.control(session.Pause)
	c.say("ab", true)
	c.send(`{"type":"ping"}`)
	must(t, c.next().Type == "pong", "a frame came through the pause")
	c.control(session.Resume)
	c.hear(1, 2, session.Completed)
}

func TestStopEndsAPause(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.control(session.Pause)
	c.say("ab", true)
	c.control(session.Stop)
	m := c.next()
	must(t, m.Reason == "stopped" && m.LastSequence == 0, "%+v", m)
	c.say("cd", true)
	c.hear(1, 2, session.Completed)
}

func TestAFailedUtteranceIsSaidAndTheSessionLives(t *testing.T) {
	fail := true
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		err := aFrameARune(ctx, script, emit)
		if fail {
			fail = false
			return session.Errorf(session.WorkerUnavailable, "Send it again", "no worker is left")
		}
		return err
	})
	c := e.connect("pacing=none")
	c.say("abc", true)
	for i := range 3 {
		must(t, bytes.Equal(c.next().samples, frame(i)), "frame %d", i)
	}
	m := c.next()
	must(t, m.Type == "error" && m.Code == "WORKER_UNAVAILABLE" && m.Message == "no worker is left. Send it again.", "%+v", m)
	m = c.next()
	must(t, m.Reason == "failed" && m.LastSequence == 3, "%+v", m)
	c.say("de", true)
	c.hear(4, 2, session.Completed)
}

func TestAnErrorWithoutACodeIsInternal(t *testing.T) {
	e := startEdge(t, testConfig(), func(context.Context, *session.Script, func(session.Frame) error) error {
		return errors.New("secret detail")
	})
	c := e.connect("")
	c.say("a", true)
	m := c.next()
	must(t, m.Code == "INTERNAL_ERROR" && !strings.Contains(m.Message, "secret"), "%+v", m)
}

func TestAPanicEndsItsSessionAlone(t *testing.T) {
	e := startEdge(t, testConfig(), func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
		if text, _, _ := script.Chunk(ctx, 0); text == "panic" {
			panic("boom")
		}
		return aFrameARune(ctx, script, emit)
	})
	victim, bystander := e.connect(""), e.connect("pacing=none")
	victim.say("panic", true)
	m := victim.expect("error")
	must(t, m.Code == "INTERNAL_ERROR", "%+v", m)
	victim.expectClose(1011, "internal_error")
	bystander.say("abc", true)
	bystander.hear(1, 3, session.Completed)
	must(t, strings.Contains(e.logs.String(), "boom"), "the panic is not in the log")
}

func TestTheClientsCloseIsAnswered(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for _, code := range []websocket.StatusCode{1000, 1001, 3000, 4999} {
		c := e.connect("")
		err := c.ws.Close(code, "")
		must(t, err == nil || websocket.CloseStatus(err) == 1000, "the edge did not answer the close %d: %v", code, err)
	}
	eventually(t, "the place is free", func() bool { taken, _ := e.hub.Sessions(); return taken == 0 })
	must(t, strings.Contains(e.logs.String(), `"reason":"client_closed"`), "%s", e.logs)
}

func TestReceiptsAreTaken(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.send(`{"type":"text","text":"a"}`)
	for c.next().Type != "utterance_end" {
	}
	c.send(`{"type":"receipt","frames":[[1,1700000000000,1700000000100]]}`)
	c.send(`{"type":"receipt","frames":[[2,1700000000000,1700000000100]]}`)
	m := c.next()
	must(t, m.Code == "INVALID_MESSAGE" && strings.Contains(m.Message, "frame 2"), "%+v", m)
}
