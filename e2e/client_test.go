package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/worker"
)

// message is any message of the edge.
type message struct {
	Type         string `json:"type"`
	SessionID    string `json:"session_id"`
	ResumeToken  string `json:"resume_token"`
	PCM          []byte `json:"pcm"` // base64 in JSON
	Sequence     uint64 `json:"sequence"`
	LastSequence uint64 `json:"last_sequence"`
	Utterance    uint64 `json:"utterance"`
	Accepted     uint64 `json:"utterances_accepted"`
	Reason       string `json:"reason"`
	Code         string `json:"code"`
	Message      string `json:"message"`
	Traceparent  string `json:"traceparent"`
	TraceID      string `json:"trace_id"`
}

// client is a real WebSocket client of another library than the edge's.
type client struct {
	t     testing.TB
	ctx   context.Context
	ws    *websocket.Conn
	start message
}

func connect(t testing.TB, url string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: t, ctx: ctx, ws: ws}
	if c.start = c.next(); c.start.Type != "session_start" {
		t.Fatalf("first message: %+v", c.start)
	}
	return c
}

func (c *client) send(v any) {
	c.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.ws.Write(c.ctx, websocket.MessageText, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) say(text string) { c.t.Helper(); c.send(map[string]any{"type": "text", "text": text}) }

func (c *client) next() message {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) read() (m message, err error) {
	_, data, err := c.ws.Read(c.ctx)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	return m, err
}

// hearUtterance takes frames until the utterance is over; their sequence must
// go on from the given one without a gap.
func (c *client) hearUtterance(after uint64) (pcm []byte, end message) {
	c.t.Helper()
	for {
		m := c.next()
		switch m.Type {
		case "audio":
			if after++; m.Sequence != after {
				c.t.Fatalf("sequence %d, want %d", m.Sequence, after)
			}
			pcm = append(pcm, m.PCM...)
		case "utterance_end":
			if m.LastSequence != after {
				c.t.Fatalf("the end says %d, the last frame was %d", m.LastSequence, after)
			}
			return pcm, m
		default:
			c.t.Fatalf("in an utterance: %+v", m)
		}
	}
}

// tone is what the tone engine says for a text of so many characters.
func tone(hz float64, runes int) []byte {
	var pcm []byte
	for i := range runes * worker.ToneFramesPerRune {
		pcm = worker.AppendTone(pcm, hz, i)
	}
	return pcm
}

// checkTone compares sound bit for bit, frame by frame.
func checkTone(t testing.TB, pcm []byte, hz float64, runes int) {
	t.Helper()
	want := tone(hz, runes)
	const frame = 1920
	for i := 0; i < len(want) && i < len(pcm); i += frame {
		if !bytes.Equal(pcm[i:min(i+frame, len(pcm))], want[i:i+frame]) {
			t.Fatalf("frame %d of %d is not the worker's", i/frame, len(want)/frame)
		}
	}
	if len(pcm) != len(want) {
		t.Fatalf("%d frames, want %d", len(pcm)/frame, len(want)/frame)
	}
}

// decodeMessages reads messages as a program prints them, one a line.
func decodeMessages(t testing.TB, lines [][]byte) (pcm []byte, end message) {
	t.Helper()
	var after uint64
	for _, line := range lines {
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%v in %.100q", err, line)
		}
		switch m.Type {
		case "audio":
			if after++; m.Sequence != after {
				t.Fatalf("sequence %d, want %d", m.Sequence, after)
			}
			pcm = append(pcm, m.PCM...)
		case "utterance_end":
			end = m
		}
	}
	return pcm, end
}
