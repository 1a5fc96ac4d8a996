package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"
)

const (
	checkPeriod   = time.Second
	recheckPeriod = 200 * time.Millisecond // of what has failed
	checkTimeout  = 900 * time.Millisecond
	// unsaidFor is how long a check may fail at the start before the log says
	// so: until then workers are still being looked up.
	unsaidFor = 3 * time.Second
	// wedgedAfter is how long the checks may stand still before the process
	// counts as wedged.
	wedgedAfter = 30 * time.Second
)

// Check is one thing the edge depends on. Probe returns nil when it is well,
// and should return an error whose text is the cause.
type Check struct {
	Name       string
	Resolution string
	Probe      func(context.Context) error
}

// CheckResult is the outcome of a check as /health shows it.
type CheckResult struct {
	OK         bool   `json:"ok"`
	Error      string `json:"error,omitempty"`
	Resolution string `json:"resolution,omitempty"`
}

// Readiness says whether the edge can take one more session, and why not.
type Readiness func() error

// Health runs the checks in the background, so that a probe is answered at
// once even when what it asks about hangs.
type Health struct {
	checks []Check
	ready  Readiness
	log    *slog.Logger
	start  time.Time
	beat   atomic.Int64 // Unix nanoseconds of the last look at the results

	mu      sync.Mutex
	results map[string]CheckResult
}

// NewHealth returns the health of the checks, which Run keeps up to date. A
// check that has not come to a result counts as failed.
func NewHealth(checks []Check, ready Readiness, log *slog.Logger) *Health {
	h := &Health{checks: checks, ready: ready, log: log, start: time.Now(), results: map[string]CheckResult{}}
	for _, c := range checks {
		h.results[c.Name] = CheckResult{Error: "not checked yet", Resolution: "Wait a second"}
	}
	h.beat.Store(time.Now().UnixNano())
	return h
}

// Run checks until ctx is done, each check at its own pace.
func (h *Health) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range h.checks {
		running.Go(func() { h.keepChecking(ctx, c) })
	}
	ticker := time.NewTicker(checkPeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			h.beat.Store(now.UnixNano())
		case <-ctx.Done():
			return
		}
	}
}

func (h *Health) keepChecking(ctx context.Context, c Check) {
	begun := time.Now()
	said := unsaid
	for {
		result := h.check(ctx, c)
		if ctx.Err() != nil {
			return
		}
		wait := checkPeriod
		if !result.OK {
			wait = recheckPeriod
		}
		switch {
		case result.OK && said != saidPassed:
			h.log.Info("check passed", "check", c.Name)
			said = saidPassed
		case !result.OK && (said == saidPassed || said == unsaid && time.Since(begun) >= unsaidFor):
			h.log.Error("check failed", "check", c.Name, "cause", result.Error, "resolution", result.Resolution)
			said = saidFailed
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// What the log has said of a check.
const (
	unsaid = iota
	saidPassed
	saidFailed
)

func (h *Health) check(ctx context.Context, c Check) CheckResult {
	probe, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := c.Probe(probe)
	result := CheckResult{OK: err == nil}
	if err != nil {
		result.Error, result.Resolution = err.Error(), c.Resolution
		if errors.Is(err, context.DeadlineExceeded) {
			result.Error = fmt.Sprintf("no answer within %s: it hangs, or packets to it are dropped", checkTimeout)
		}
	}
	if ctx.Err() == nil {
		h.mu.Lock()
		h.results[c.Name] = result
		h.mu.Unlock()
	}
	return result
}

// OK reports whether the named check passed last time.
func (h *Health) OK(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.results[name].OK
}

// healthBody is the wire contract of /health.
type healthBody struct {
	Status string                 `json:"status"`
	Redis  bool                   `json:"redis"`
	Worker bool                   `json:"worker"`
	Uptime float64                `json:"uptime_seconds"`
	Checks map[string]CheckResult `json:"checks"`
}

func (h *Health) body() (body healthBody, healthy bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body = healthBody{Status: "healthy", Uptime: time.Since(h.start).Seconds(), Checks: map[string]CheckResult{}}
	for name, r := range h.results {
		body.Checks[name] = r
		if !r.OK {
			body.Status = "unhealthy"
		}
	}
	body.Redis, body.Worker = body.Checks["redis"].OK, body.Checks["worker"].OK
	return body, body.Status == "healthy"
}

// App returns the Fiber app of the health port. metrics, when not nil, serves
// /metrics; publicPort is named to WebSocket clients that come here.
func (h *Health) App(metrics fiber.Handler, publicPort int) *fiber.App {
	app := newApp("voxedge-health", h.log, fiber.Config{
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, BodyLimit: 1 << 10,
	})
	app.Use(func(c *fiber.Ctx) error {
		if websocket.IsWebSocketUpgrade(c) {
			c.Set(fiber.HeaderUpgrade, "websocket")
			return c.Status(fiber.StatusUpgradeRequired).SendString(fmt.Sprintf(
				"This port serves health to the platform. The WebSocket is on port %d.\n", publicPort))
		}
		if c.Method() != fiber.MethodGet && c.Method() != fiber.MethodHead {
			return c.Status(fiber.StatusMethodNotAllowed).SendString("Only GET is answered here.\n")
		}
		return c.Next()
	})
	app.Get("/health", func(c *fiber.Ctx) error {
		body, healthy := h.body()
		return answer(c, healthy, body)
	})
	app.Get("/readiness", func(c *fiber.Ctx) error {
		if err := h.ready(); err != nil {
			return answer(c, false, map[string]any{"ready": false, "reason": err.Error()})
		}
		return answer(c, true, map[string]any{"ready": true})
	})
	app.Get("/liveness", func(c *fiber.Ctx) error {
		still := time.Since(time.Unix(0, h.beat.Load()))
		return answer(c, still < wedgedAfter, map[string]any{"alive": still < wedgedAfter})
	})
	if metrics != nil {
		app.Get("/metrics", metrics)
	}
	app.Use(func(c *fiber.Ctx) error {
		return c.Status(fiber.StatusNotFound).SendString("Here are /health, /readiness, /liveness and /metrics.\n")
	})
	return app
}

func answer(c *fiber.Ctx, ok bool, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	status := fiber.StatusOK
	if !ok {
		status = fiber.StatusServiceUnavailable
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(status).Send(data)
}
