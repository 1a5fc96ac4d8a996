package handlers_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/session"
)

func TestAtCapacityIsAnHTTPStatus(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 1
	e := startEdge(t, cfg, nil)
	first := e.connect("")
	_, response, err := e.dial("")
	must(t, err != nil && response != nil, "a second session was let in")
	body, _ := io.ReadAll(response.Body)
	must(t, response.StatusCode == 503 && response.Header.Get("Retry-After") != "" && strings.Contains(string(body), "AT_CAPACITY"),
		"%d %s %s", response.StatusCode, response.Header, body)
	must(t, first.ws.Close(websocket.StatusNormalClosure, "") == nil, "close")
	eventually(t, "the place is free", func() bool { taken, _ := e.hub.Sessions(); return taken == 0 })
	e.connect("")
}

func TestABrowserIsToldInTheWebSocket(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSessions = 1
	e := startEdge(t, cfg, nil)
	e.connect("")
	c, _, err := e.dial("", withOrigin)
	must(t, err == nil, "%v", err)
	m := c.next()
	must(t, m.Type == "error" && m.Code == "AT_CAPACITY", "%+v", m)
	c.expectClose(1013, "")
}

func TestABadParameterIsRefused(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for _, query := range []string{
		"pacing=fast", "model=" + strings.Repeat("x", 300), manyOptions(), "option.=a",
		"model=%ff", "option.voice=%c3%28", "option.%ff=a", "traceparent=%80", // not UTF-8, which no worker would be told
	} {
		_, response, err := e.dial(query)
		must(t, err != nil && response != nil && response.StatusCode == 400, "%.30s: %v", query, err)
	}
	c, _, err := e.dial("pacing=fast", withOrigin)
	must(t, err == nil, "%v", err)
	must(t, c.next().Code == "INVALID_MESSAGE", "the browser was not told")
	c.expectClose(1008, "")
	taken, _ := e.hub.Sessions()
	must(t, taken == 0, "%d places are taken", taken)
}

func manyOptions() string {
	var b strings.Builder
	for i := range 20 {
		b.WriteString("&option.o" + string(rune('a'+i)) + "=1")
	}
	return b.String()
}

// A client that goes away in the middle of the handshake must not keep a place.
func TestAnAbandonedHandshakeKeepsNoPlace(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for range 200 {
		conn, err := net.Dial("tcp", e.addr)
		must(t, err == nil, "%v", err)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset, so that the answer cannot be written
		_ = conn.Close()
	}
	eventually(t, "all places are free", func() bool { taken, _ := e.hub.Sessions(); return taken == 0 })
	e.connect("")
}

func TestIdleTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.IdleTimeout = 50 * time.Millisecond
	e := startEdge(t, cfg, nil)
	c := e.connect("")
	m := c.next()
	must(t, m.Code == "LIMIT_REACHED" && strings.Contains(m.Message, "IDLE_TIMEOUT"), "%+v", m)
	c.expectClose(1008, "idle_timeout")
}

func TestASpeakingSessionIsNotIdle(t *testing.T) {
	cfg := testConfig()
	cfg.IdleTimeout = 100 * time.Millisecond
	e := startEdge(t, cfg, nil)
	c := e.connect("")
	c.say(strings.Repeat("a", 30), true) // 400 ms of silence from the client
	c.hear(1, 30, session.Completed)
	c.expectClose(1008, "idle_timeout")
}

func TestMaxDuration(t *testing.T) {
	cfg := testConfig()
	cfg.MaxDuration = 50 * time.Millisecond
	e := startEdge(t, cfg, nil)
	c := e.connect("")
	must(t, c.next().Code == "LIMIT_REACHED", "no error")
	c.expectClose(1008, "max_duration")
}

func TestMaxMessages(t *testing.T) {
	cfg := testConfig()
	cfg.MaxMessages = 3
	e := startEdge(t, cfg, nil)
	c := e.connect("")
	for range 4 {
		c.send(`{"type":"ping"}`)
	}
	for range 3 {
		must(t, c.next().Type == "pong", "no pong")
	}
	must(t, c.next().Code == "LIMIT_REACHED", "no error")
	c.expectClose(1008, "message_limit")
}

func TestTooManyUtterancesAreRefusedOneByOne(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.control(session.Pause)
	for range 5 {
		c.say("a", true)
	}
	m := c.next()
	must(t, m.Code == "LIMIT_REACHED", "%+v", m)
	c.control(session.Resume)
	for k := range uint64(4) {
		c.hear(k+1, 1, session.Completed)
	}
}

func TestATooLongUtteranceIsRefused(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("")
	c.control(session.Pause)
	for range 2 {
		c.say(strings.Repeat("a", 10_000), false)
	}
	c.say("b", false)
	m := c.next()
	must(t, m.Code == "LIMIT_REACHED", "%+v", m)
}

// The client's TCP is alive but its program answers nothing.
func TestAVanishedClientIsFound(t *testing.T) {
	cfg := testConfig()
	cfg.PingInterval = 50 * time.Millisecond
	e := startEdge(t, cfg, nil)
	conn, err := net.Dial("tcp", e.addr)
	must(t, err == nil, "%v", err)
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	_, err = io.Copy(io.Discard, conn) // until the edge gives up
	must(t, err == nil, "%v", err)
	eventually(t, "the story is told", func() bool { return strings.Contains(e.logs.String(), "answers no ping") })
}

func TestAClientThatAnswersPingsStays(t *testing.T) {
	cfg := testConfig()
	cfg.PingInterval = 20 * time.Millisecond
	e := startEdge(t, cfg, nil)
	c := e.connect("pacing=none")
	pings := make(chan message)
	go func() { m, _ := c.read(); pings <- m }() // reading answers pings
	time.Sleep(10 * cfg.PingInterval)
	c.say("a", true)
	must(t, (<-pings).Type == "audio", "the session was ended")
}

// endless speaks until it is stopped.
func endless(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
	if text, _, _ := script.Chunk(ctx, 0); text != "endless" {
		return aFrameARune(ctx, script, emit)
	}
	for i := 0; ; i++ {
		if err := emit(session.Frame{PCM: frame(i), Received: time.Now()}); err != nil {
			return err
		}
	}
}

// A client that takes nothing costs its queue, is told why, and is closed;
// nobody else notices.
func TestASlowClientIsClosed(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.SlowClientTimeout = 100 * time.Millisecond
		e := startEdge(t, cfg, endless)
		slow, other := e.connect("pacing=none"), e.connect("")
		slow.say("endless", true)
		eventually(t, "the slow client is found", func() bool { return strings.Contains(e.logs.String(), `"reason":"slow_client"`) })
		other.say(strings.Repeat("a", 20), true)
		other.hear(1, 20, session.Completed)
		must(t, strings.Contains(e.logs.String(), "SLOW_CLIENT"), "%s", e.logs)
	})
}

func TestBackpressureHoldsTheSpeaker(t *testing.T) {
	emitted := make(chan int, 1<<20)
	e := startEdge(t, testConfig(), func(ctx context.Context, _ *session.Script, emit func(session.Frame) error) error {
		for i := range 100_000 {
			if err := emit(session.Frame{PCM: frame(i)}); err != nil {
				return err
			}
			emitted <- i
		}
		return nil
	})
	c := e.connect("") // paced: the lead leaves at once, the rest of the second waits
	c.say("x", true)
	c.next()
	for range 10 {
		runtime.Gosched()
	}
	c.control(session.Pause)
	c.send(`{"type":"ping"}`)
	sent := 1
	for m := c.next(); m.Type != "pong"; m = c.next() {
		sent++
	}
	eventually(t, "the queue is full", func() bool { return len(emitted) >= sent+9 })
	time.Sleep(50 * time.Millisecond) // were it not held, it would run far ahead in this time
	must(t, len(emitted) <= sent+11, "%d frames were taken from the speaker, %d sent", len(emitted), sent)
}

func TestDrainLetsUtterancesEndAndRefusesTheRest(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	speaking, idle := e.connect(""), e.connect("")
	speaking.say(strings.Repeat("a", 30), true)
	speaking.next()
	drained := make(chan int, 1)
	go func() { drained <- e.hub.Drain(context.Background()) }()
	m := idle.next()
	must(t, m.Code == "DRAINING", "%+v", m)
	idle.expectClose(1001, "draining")

	speaking.say("more", true)
	m = speaking.expect("error")
	must(t, m.Code == "DRAINING", "%+v", m)
	_, response, err := e.dial("")
	must(t, err != nil && response.StatusCode == 503, "%v", err)

	m = speaking.expect("utterance_end")
	must(t, m.LastSequence == 30 && m.Reason == "completed", "%+v", m)
	speaking.expectClose(1001, "draining")
	must(t, <-drained == 0, "sessions were cut off")
}

func TestDrainCutsOffWhatLastsTooLong(t *testing.T) {
	e := startEdge(t, testConfig(), endless)
	c := e.connect("")
	c.say("endless", true)
	c.next()
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan int, 1)
	go func() { drained <- e.hub.Drain(ctx) }()
	cancel()
	c.expectClose(1001, "draining")
	must(t, <-drained == 1, "nothing was cut off")
}
