package middleware

import (
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/voxedge/voxedge/session"
)

// RefusalKey is the local under which a refused WebSocket finds its *Refusal.
const RefusalKey = "voxedge.refusal"

// Refusal says no before there is a session.
type Refusal struct {
	Status     int // HTTP
	Close      int // WebSocket
	RetryAfter time.Duration
	Err        *session.Error
}

// Refuse answers with the HTTP status, so that a proxy can try elsewhere; but a
// client that sends an Origin is a browser, which would see a bare 1006: it is
// let in to be told and closed.
func Refuse(c *fiber.Ctx, r *Refusal) error {
	if c.Get(fiber.HeaderOrigin) != "" && c.Method() == fiber.MethodGet { // and not a page that asks for a ticket
		c.Locals(RefusalKey, r)
		return c.Next()
	}
	return r.answer(c)
}

// answer is the refusal as HTTP.
func (r *Refusal) answer(c *fiber.Ctx) error {
	if r.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(r.RetryAfter.Seconds()))))
	}
	if r.Status == fiber.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Status(r.Status).Send(session.EncodeError(r.Err))
}

// Refused reports whether an earlier handler has refused the request.
func Refused(c *fiber.Ctx) bool { return c.Locals(RefusalKey) != nil }

// Admit takes a place in the hub for the session to come, and gives it back
// when untilClosed says that the connection is closed.
func Admit(hub *session.Hub, untilClosed func(c *fiber.Ctx, leave func())) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if Refused(c) {
			return c.Next()
		}
		problem := hub.Admit()
		if problem == nil {
			untilClosed(c, hub.Leave)
			return c.Next()
		}
		return Refuse(c, refusalOf(problem))
	}
}

// RefuseError refuses as is right for the code.
func RefuseError(c *fiber.Ctx, problem *session.Error) error { return Refuse(c, refusalOf(problem)) }

// refusalOf is how each code is said before there is a session.
func refusalOf(problem *session.Error) *Refusal {
	r := &Refusal{Status: fiber.StatusServiceUnavailable, Close: session.ClosePolicy, Err: problem}
	switch problem.Code {
	case session.InvalidMessage:
		r.Status = fiber.StatusBadRequest
	case session.Unauthorized:
		r.Status = fiber.StatusUnauthorized
	case session.ForbiddenOrigin:
		r.Status = fiber.StatusForbidden
	case session.SessionNotFound:
		r.Status = fiber.StatusNotFound
	case session.RateLimited:
		r.Status, r.Close, r.RetryAfter = fiber.StatusTooManyRequests, session.CloseTryLater, time.Second
	case session.Draining:
		r.Close, r.RetryAfter = session.CloseDraining, time.Second
	case session.ConnectionError:
		r.Close, r.RetryAfter = session.CloseTryLater, time.Second
	default:
		r.Close, r.RetryAfter = session.CloseTryLater, 2*time.Second
	}
	return r
}

// LogRequests writes a line at debug level for each request.
func LogRequests(log *slog.Logger) fiber.Handler {
	return func(c *fiber.Ctx) error {
		began := time.Now()
		err := c.Next()
		path := c.Path()
		if at := strings.IndexAny(path, "?%"); at >= 0 { // a query that was escaped by mistake has secrets too
			path = path[:at]
		}
		log.Debug("request", "method", c.Method(), "path", path, "status", c.Response().StatusCode(),
			"remote", c.IP(), "duration_ms", float64(time.Since(began).Microseconds())/1000)
		return err
	}
}
