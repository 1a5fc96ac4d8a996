package handlers

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"time"

	"github.com/gofiber/contrib/websocket"

	"github.com/voxedge/voxedge/session"
)

// client is a session.Conn: one WebSocket and the socket under it.
type client struct {
	ws     *websocket.Conn
	conn   net.Conn // under the WebSocket: TLS, or the socket
	socket *socket  // under that
	plain  bool     // without TLS
}

var _ session.Conn = (*client)(nil)

// newClient takes over the WebSocket's writes.
func newClient(ws *websocket.Conn) *client {
	c := &client{ws: ws, conn: ws.NetConn(), socket: socketUnder(ws.NetConn())}
	c.plain = !c.socket.from.cfg.TLS
	c.socket.detach()
	return c
}

// readAhead reports whether the HTTP server has read more than the request: the
// rest is in its reader, which it takes back when the request's handler returns.
// It does not say so; one has to look inside its connection.
func readAhead(hijacked net.Conn) bool {
	from := reflect.Indirect(reflect.ValueOf(hijacked)).FieldByName("r")
	return !from.IsValid() || from.Elem().Type() == reflect.TypeFor[*bufio.Reader]()
}

// socketUnder finds our socket below what the HTTP server and TLS put on it.
func socketUnder(conn net.Conn) *socket {
	for {
		switch layer := conn.(type) {
		case *socket:
			return layer
		case interface{ UnsafeConn() net.Conn }: // a connection taken from fasthttp
			conn = layer.UnsafeConn()
		case interface{ NetConn() net.Conn }: // TLS
			conn = layer.NetConn()
		default:
			panic("the connection was not accepted by a listener of Listen")
		}
	}
}

func (c *client) WriteText(p []byte) error { return c.ws.WriteMessage(websocket.TextMessage, p) }
func (c *client) Cork()                    { c.socket.cork() }
func (c *client) Uncork() error            { return c.socket.uncork() }
func (c *client) Blocked() bool            { return c.socket.blocked() }

func (c *client) Flush(patience time.Duration) error { return c.socket.flush(patience) }

func (c *client) Ping() error {
	return c.ws.WriteControl(websocket.PingMessage, nil, time.Time{})
}

func (c *client) Close(code int, reason string) {
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Time{})
	c.socket.closeSoon()
}

// close closes the connection. It is called once, when nobody reads any more.
func (c *client) close() { _ = c.conn.Close() }

func (c *client) Abort() { c.socket.abort() }

// WriteFrame passes the WebSocket library by, which would copy the frame. Its own
// messages and this one do not mix: each is one write to the connection.
func (c *client) WriteFrame(p []byte) error {
	if c.plain {
		return c.socket.writeFrame(p)
	}
	_, err := c.conn.Write(p)
	return err
}

var errMessageTooLarge = errors.New("message too large")

// readAll reads a message of at most limit bytes into buf. After an error the
// connection is of no more use, except for errMessageTooLarge.
func readAll(buf *bytes.Buffer, message io.Reader, limit int) error {
	buf.Reset()
	n, err := buf.ReadFrom(io.LimitReader(message, int64(limit)+1))
	if err == nil && n > int64(limit) {
		err = errMessageTooLarge
	}
	return err
}

// drain reads and drops what the client sends until it closes or the socket's
// deadline passes, so that a close message is not lost to a reset.
func (c *client) drain() {
	for {
		_, r, err := c.ws.NextReader()
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
	}
}
