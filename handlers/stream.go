package handlers

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
	"golang.org/x/time/rate"

	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

// StreamConfig is what the public side needs to know.
type StreamConfig struct {
	MaxMessageBytes  int           // of one client message
	MessageRate      int           // client messages a second; those that come faster wait in the socket; 0: any
	HandshakeTimeout time.Duration // from the first byte of a request to its last
	HealthPort       int           // named to those who look for health here

	Auth       *middleware.Auth
	Origins    middleware.Origins
	Proxies    middleware.Proxies // whose word is taken for clients' addresses
	Limiter    middleware.Limiter // nil: no limits
	PerKey     middleware.Limits
	PerAddress middleware.Limits
}

// maxHeaderBytes bounds a request's header.
const maxHeaderBytes = 16 << 10

// Stream returns the public Fiber app: the WebSocket routes, and an answer for
// everyone else.
func Stream(hub *session.Hub, cfg StreamConfig, log *slog.Logger) *fiber.App {
	app := newApp("voxedge", log, fiber.Config{
		ReadTimeout:    cfg.HandshakeTimeout,
		WriteTimeout:   cfg.HandshakeTimeout,
		IdleTimeout:    cfg.HandshakeTimeout,
		ReadBufferSize: maxHeaderBytes,
		BodyLimit:      64 << 10,
	})
	s := &stream{hub: hub, cfg: cfg, log: log}
	address := middleware.Door{Limiter: cfg.Limiter, Of: middleware.PerAddress(cfg.PerAddress), Refused: hub.Refused}
	key := middleware.Door{Limiter: cfg.Limiter, Of: middleware.PerKey(cfg.PerKey), Refused: hub.Refused}
	limited := func(step fiber.Handler) fiber.Handler {
		if cfg.Limiter == nil {
			return pass
		}
		return step
	}
	authenticated := pass
	if cfg.Auth != nil {
		authenticated = cfg.Auth.Check(hub.Refused)
		app.Post("/v1/tickets", cfg.Proxies.Check, limited(address.Count(middleware.Tickets)), cfg.Auth.CheckBearer(hub.Refused),
			limited(key.Count(middleware.Tickets)), cfg.Auth.GiveTicket(hub.Refused))
	}
	doors := []fiber.Handler{
		s.upgradeRequired, cfg.Proxies.Check, cfg.Origins.Check(hub.Refused, log),
		limited(address.Count(middleware.Connects)), // first, so that nobody tries keys without end
		authenticated, limited(key.Count(middleware.Connects)),
		s.admitted(s.params), middleware.Admit(hub, untilClosed),
		limited(address.Enter(resumes, untilClosed)), limited(key.Enter(resumes, untilClosed)),
		s.upgrade(),
	}
	for _, path := range []string{"/", "/v1/stream"} {
		app.Get(path, doors...)
		app.All(path, onlyGet)
	}
	app.Use(s.notFound)
	app.Hooks().OnShutdown(func() error { s.conversations.Wait(); return nil })
	return app
}

func pass(c *fiber.Ctx) error { return c.Next() }

// admitted leaves out a step for who is refused already.
func (s *stream) admitted(step fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if middleware.Refused(c) {
			return c.Next()
		}
		return step(c)
	}
}

type stream struct {
	hub           *session.Hub
	cfg           StreamConfig
	log           *slog.Logger
	conversations sync.WaitGroup
}

// untilClosed calls leave when the request's connection is closed, whatever
// became of the request.
func untilClosed(c *fiber.Ctx, leave func()) {
	s := socketUnder(c.Context().Conn())
	s.onClose = append(s.onClose, leave)
}

// upgrade answers with 101 and serves the session until it is over.
func (s *stream) upgrade() fiber.Handler {
	accept := websocket.New(s.serve, websocket.Config{
		Subprotocols:    []string{session.BinaryProtocol},
		ReadBufferSize:  128,  // a longer message is read past it
		WriteBufferSize: 1024, // for all but frames, which do not pass through
		WriteBufferPool: &sync.Pool{},
		RecoverHandler: func(ws *websocket.Conn) {
			if p := recover(); p != nil {
				_ = ws.Close()
				s.log.Error("panic in a connection", "cause", p, "resolution", "this is a fault of voxedge: report it")
			}
		},
	})
	return func(c *fiber.Ctx) error {
		err := accept(c)
		if c.Response().StatusCode() == fiber.StatusSwitchingProtocols {
			return nil
		}
		if err != nil && !errors.Is(err, fiber.ErrUpgradeRequired) {
			return err
		}
		return badHandshake(c)
	}
}

// serve opens the session of a WebSocket and has it read by a goroutine of its
// own, with a small stack, so that the HTTP server gives back what the request
// took: more memory than all else of a session that is idle.
func (s *stream) serve(ws *websocket.Conn) {
	conn := newClient(&websocket.Conn{Conn: ws.Conn}) // what it came with is the request's
	if refusal, ok := ws.Locals(middleware.RefusalKey).(*middleware.Refusal); ok {
		refuseUpgraded(conn, refusal)
		return
	}
	conn.socket.shaken()
	opening := ws.Locals(openingKey).(session.Opening)
	opening.Allowance = middleware.AllowanceIn(ws.Locals)
	opening.Binary = ws.Subprotocol() == session.BinaryProtocol
	current := s.hub.Open(conn, opening)
	if readAhead(ws.NetConn()) {
		s.converse(conn, current)
	} else {
		s.conversations.Go(func() { s.converse(conn, current) })
	}
}

// converse reads one client from its greeting to its end.
func (s *stream) converse(conn *client, current *session.Session) {
	defer conn.close()
	defer current.Close()
	defer func() {
		if p := recover(); p != nil {
			current.Panicked(p)
		}
	}()
	pace := rate.NewLimiter(rate.Inf, 0)
	if s.cfg.MessageRate > 0 {
		pace = rate.NewLimiter(rate.Limit(s.cfg.MessageRate), 2*s.cfg.MessageRate)
	}
	conn.ws.SetPongHandler(func(string) error {
		inTurn(pace)
		current.Ponged()
		return nil
	})
	conn.ws.SetPingHandler(func(data string) error {
		inTurn(pace)
		defer current.Pinged()
		return conn.ws.WriteControl(websocket.PongMessage, []byte(data), time.Time{})
	})
	conn.ws.SetCloseHandler(func(int, string) error { return nil }) // the session answers, after its last message

	ending, lost := s.readMessages(conn, current, pace)
	if lost != nil {
		current.Lost(lost)
		return
	}
	current.End(ending)
	conn.drain()
}

var readBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// readMessages hands the client's messages to the session until one of the two
// ends it.
func (s *stream) readMessages(conn *client, to *session.Session, pace *rate.Limiter) (ending session.Ending, lost error) {
	for {
		inTurn(pace)
		kind, err := s.readMessage(conn, to)
		switch {
		case websocket.IsUnexpectedCloseError(err, websocket.CloseAbnormalClosure): // a close message, of whatever code
			return session.ClientClosed, nil
		case errors.Is(err, errMessageTooLarge):
			return session.TooLarge(s.cfg.MaxMessageBytes), nil
		case errors.Is(err, errNotUTF8):
			return session.InvalidUTF8, nil
		case err != nil:
			return session.Ending{}, err
		case kind == websocket.BinaryMessage:
			return session.BinaryData, nil
		}
	}
}

// inTurn waits for the turn of one more message; the socket's flow control holds a
// client that floods.
func inTurn(pace *rate.Limiter) { time.Sleep(pace.Reserve().Delay()) }

var errNotUTF8 = errors.New("text message is not UTF-8")

func (s *stream) readMessage(conn *client, to *session.Session) (kind int, err error) {
	kind, message, err := conn.ws.NextReader()
	if err != nil || kind != websocket.TextMessage {
		return kind, err
	}
	buf := readBuffers.Get().(*bytes.Buffer) // not before: who waits for a message has none
	defer readBuffers.Put(buf)
	if err := readAll(buf, message, s.cfg.MaxMessageBytes); err != nil {
		return kind, err
	}
	if !utf8.Valid(buf.Bytes()) { // the library lets it through
		return kind, errNotUTF8
	}
	to.Receive(buf.Bytes())
	return kind, nil
}

// upgradeRequired answers plain HTTP with the URL that was meant.
func (s *stream) upgradeRequired(c *fiber.Ctx) error {
	if !websocket.IsWebSocketUpgrade(c) {
		c.Set(fiber.HeaderConnection, "Upgrade")
		return badHandshake(c)
	}
	if offers := c.Request().Header.PeekAll(fiber.HeaderSecWebSocketProtocol); len(offers) > 1 {
		c.Request().Header.SetBytesV(fiber.HeaderSecWebSocketProtocol, bytes.Join(offers, []byte(", "))) // the library reads one line
	}
	return c.Next()
}

func badHandshake(c *fiber.Ctx) error {
	c.Set(fiber.HeaderUpgrade, "websocket")
	c.Set(fiber.HeaderSecWebSocketVersion, "13")
	return c.Status(fiber.StatusUpgradeRequired).SendString("This is a WebSocket service: connect to " + wsURL(c) +
		" with a WebSocket client (version 13), not with plain HTTP. If a proxy is between, it must pass the Upgrade and Connection headers on.\n")
}

// onlyGet answers other methods at a WebSocket's path.
func onlyGet(c *fiber.Ctx) error {
	c.Set(fiber.HeaderAllow, fiber.MethodGet)
	return c.Status(fiber.StatusMethodNotAllowed).SendString("Here is a WebSocket, which begins with a GET: connect to " + wsURL(c) + "\n")
}

func (s *stream) notFound(c *fiber.Ctx) error {
	if strings.HasPrefix(c.Path(), "/health") || strings.HasPrefix(c.Path(), "/readiness") ||
		strings.HasPrefix(c.Path(), "/liveness") || strings.HasPrefix(c.Path(), "/metrics") {
		return c.Status(fiber.StatusNotFound).SendString("Health is served on port " + itoa(s.cfg.HealthPort) + ", which is not public.\n")
	}
	return c.Status(fiber.StatusNotFound).SendString("Nothing is here. The WebSocket is at " + wsURL(c) + "\n")
}

// wsURL is the URL to connect to, as the client itself can reach it.
func wsURL(c *fiber.Ctx) string {
	scheme := "ws"
	if c.Protocol() == "https" {
		scheme = "wss"
	}
	host := string(c.Request().Host())
	if host == "" { // HTTP/1.0
		host = c.Context().LocalAddr().String()
	}
	return scheme + "://" + host + "/v1/stream"
}
