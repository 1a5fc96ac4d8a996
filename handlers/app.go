package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"

	"github.com/voxedge/voxedge/middleware"
)

func itoa(n int) string { return strconv.Itoa(n) }

// newApp returns a Fiber app that logs as we do and survives a panic.
func newApp(name string, log *slog.Logger, cfg fiber.Config) *fiber.App {
	cfg.AppName = name
	cfg.DisableStartupMessage = true
	cfg.ReduceMemoryUsage = true // a WebSocket would keep the 16 KB that its request was read into
	cfg.Immutable = true         // what a session keeps of its request, outlives it
	cfg.ErrorHandler = func(c *fiber.Ctx, err error) error {
		status := fiber.StatusInternalServerError
		if e, ok := errors.AsType[*fiber.Error](err); ok {
			status = e.Code
		}
		text := err.Error()
		if strings.HasPrefix(text, "error when reading request headers") { // with a dump of what the visitor sent
			text = "This is not an HTTP request. A WebSocket begins with one."
		}
		return c.Status(status).SendString(text + "\n")
	}
	app := fiber.New(cfg)
	app.Server().Logger = serverLog{log}
	app.Server().NoDefaultServerHeader = true
	app.Server().KeepHijackedConns = true     // WebSockets outlive their requests
	app.Server().SecureErrorLogMessage = true // what a visitor sent may be its key
	app.Use(closeAfterAnswer, middleware.LogRequests(log), recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: func(_ *fiber.Ctx, p any) {
		log.Error("panic in a request", "cause", fmt.Sprint(p), "resolution", "this is a fault of voxedge: report it")
	}}))
	return app
}

// closeAfterAnswer keeps nobody but WebSockets: one who only asks would hold a
// place that others wait for, and what follows a request whose end a proxy sees
// elsewhere than we do would be answered as another's.
func closeAfterAnswer(c *fiber.Ctx) error {
	err := c.Next()
	if c.Response().StatusCode() != fiber.StatusSwitchingProtocols || err != nil {
		c.Response().Header.SetConnectionClose()
	}
	return err
}

// serverLog takes the HTTP server's own lines, which are about single
// connections: a client that went away, a malformed request.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	l.log.Debug("http server", "cause", fmt.Sprintf(format, args...))
}
