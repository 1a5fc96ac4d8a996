package middleware

import (
	"log/slog"
	"strconv"
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
	if c.Get(fiber.HeaderOrigin) != "" {
		c.Locals(RefusalKey, r)
		return c.Next()
	}
	if r.RetryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(int(r.RetryAfter.Seconds())))
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
		return Refuse(c, busy(problem))
	}
}

// RefuseResume says why a session is not resumed.
func RefuseResume(c *fiber.Ctx, problem *session.Error) error {
	refusal := &Refusal{Status: fiber.StatusNotFound, Close: session.ClosePolicy, Err: problem}
	if problem.Code == session.Draining {
		refusal = busy(problem)
	}
	if problem.Code == session.ConnectionError {
		refusal = &Refusal{Status: fiber.StatusServiceUnavailable, Close: session.CloseTryLater, RetryAfter: time.Second, Err: problem}
	}
	if problem.Code == session.InvalidMessage {
		refusal.Status = fiber.StatusBadRequest
	}
	return Refuse(c, refusal)
}

func busy(problem *session.Error) *Refusal {
	if problem.Code == session.Draining {
		return &Refusal{Status: fiber.StatusServiceUnavailable, Close: session.CloseDraining, RetryAfter: time.Second, Err: problem}
	}
	return &Refusal{Status: fiber.StatusServiceUnavailable, Close: session.CloseTryLater, RetryAfter: 2 * time.Second, Err: problem}
}

// LogRequests writes a line at debug level for each request.
func LogRequests(log *slog.Logger) fiber.Handler {
	return func(c *fiber.Ctx) error {
		began := time.Now()
		err := c.Next()
		log.Debug("request", "method", c.Method(), "path", c.Path(), "status", c.Response().StatusCode(),
			"remote", c.IP(), "duration_ms", float64(time.Since(began).Microseconds())/1000)
		return err
	}
}
