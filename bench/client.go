package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/voxedge/voxedge/session"
)

// relayClient hears messages of a size.
type relayClient struct {
	*receiver
	messageBytes int
}

func dialRelay(addr string, messageBytes int) func(context.Context) (listener, error) {
	return func(ctx context.Context) (listener, error) {
		r, err := dialTCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &relayClient{r, messageBytes}, nil
	}
}

func (c *relayClient) listen(heard func(message)) error {
	return c.receive(func(b []byte) (taken int, err error) {
		for ; len(b)-taken >= c.messageBytes; taken += c.messageBytes {
			heard(message{c.messageBytes, c.arrived, stampOf(b[taken:])})
		}
		return taken, nil
	})
}

func stampOf(b []byte) time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b))) //nolint:gosec // as it was written
}

// edgeClient is a client of the edge.
type edgeClient struct {
	*receiver
	ctx    context.Context
	header [ws.MaxHeaderSize]byte
	reader bytes.Reader
}

// utterance is longer than any window.
var utterance = []byte(`{"type":"text","text":"` + strings.Repeat("a", 9000) + `"}`)

// dialEdge opens a session and has it speak the text, if there is any.
func dialEdge(url string, binary bool, text []byte) func(context.Context) (listener, error) {
	return func(ctx context.Context) (listener, error) {
		c, err := openSession(ctx, url, binary)
		if err != nil {
			return nil, err
		}
		if len(text) == 0 {
			return c, nil
		}
		if err := c.write(ws.OpText, text); err != nil {
			c.close()
			return nil, err
		}
		return c, nil
	}
}

// errHeard ends the wait for one message.
var errHeard = errors.New("it was heard")

// openSession connects and hears the greeting.
func openSession(ctx context.Context, url string, binary bool) (*edgeClient, error) {
	var dialer ws.Dialer
	if binary {
		dialer.Protocols = []string{session.BinaryProtocol}
	}
	conn, early, _, err := dialer.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("the edge: %w", err)
	}
	r, err := newReceiver(conn)
	if err != nil {
		return nil, err
	}
	c := &edgeClient{receiver: r, ctx: ctx}
	defer context.AfterFunc(ctx, c.close)()
	if early != nil {
		c.n, _ = io.ReadFull(early, c.buffer[:early.Buffered()])
		ws.PutReader(early)
	}
	err = c.receive(c.messages(func(_ ws.OpCode, payload []byte) error {
		if bytes.Contains(payload, []byte("session_start")) {
			return errHeard
		}
		return fmt.Errorf("the edge begins with %.200s", payload)
	}))
	if !errors.Is(err, errHeard) {
		c.close()
		return nil, err
	}
	return c, nil
}

// messages has read called with each WebSocket message.
func (c *edgeClient) messages(read func(ws.OpCode, []byte) error) func([]byte) (int, error) {
	return func(b []byte) (taken int, err error) {
		for err == nil {
			c.reader.Reset(b[taken:])
			header, short := ws.ReadHeaderBuffer(&c.reader, c.header[:])
			if short != nil || int64(c.reader.Len()) < header.Length {
				return taken, nil //nolint:nilerr // the rest is to come
			}
			begin := len(b) - c.reader.Len()
			taken = begin + int(header.Length)
			if header.OpCode == ws.OpPing {
				err = c.write(ws.OpPong, b[begin:taken])
			} else {
				err = read(header.OpCode, b[begin:taken])
			}
		}
		return taken, err
	}
}

func (c *edgeClient) write(code ws.OpCode, payload []byte) error {
	frame, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(code, true, payload)))
	if err == nil {
		_, err = c.conn.Write(frame)
	}
	return err
}

const (
	binaryHeader    = 16
	webSocketHeader = 4
)

func (c *edgeClient) listen(heard func(message)) error {
	return c.receive(c.messages(func(code ws.OpCode, payload []byte) error {
		switch {
		case code == ws.OpBinary:
			heard(message{len(payload) + webSocketHeader, c.arrived, stampOf(payload[binaryHeader:])})
		case bytes.HasPrefix(payload, []byte(`{"type":"audio"`)):
			heard(message{len(payload) + webSocketHeader, c.arrived, time.Time{}})
		case bytes.HasPrefix(payload, []byte(`{"type":"utterance_end"`)):
		case bytes.Contains(payload, []byte("WORKER_UNAVAILABLE")):
			return c.speakLater() // on a machine that is too small for so many, workers seem to be away
		default:
			return fmt.Errorf("the edge says %.200s", payload)
		}
		return nil
	}))
}

// speakLater sends the text again after a second, as a client does.
func (c *edgeClient) speakLater() error {
	select {
	case <-time.After(time.Second):
		return c.write(ws.OpText, utterance)
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}
