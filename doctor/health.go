package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// health is what the edge says of itself.
type health struct {
	Status string
	Uptime float64 `json:"uptime_seconds"`
	Checks map[string]struct {
		OK    bool
		Error string
	}
}

// environ is the edge's environment where it can be read, over the doctor's.
func (e *examination) environ(name, fallback string) string {
	if e.holder != nil && e.holder.isEdge() && len(e.holder.Environ) > 0 {
		if value := e.holder.Environ[name]; value != "" {
			return value
		}
		return fallback
	}
	if value := e.Environ[name]; value != "" {
		return value
	}
	return fallback
}

func (e *examination) checkHealth(ctx context.Context) Step {
	target, asked := e.HealthURL, e.HealthURL != ""
	if !asked {
		var why string
		if target, why = e.healthBeside(); target == "" {
			return skipped("health", "%s", why)
		}
	}
	began := time.Now()
	h, err := askHealth(ctx, target)
	if err != nil {
		s := e.failed("health", HealthUnanswered, map[string]string{"port": portOf(target)}, "%s: %v", target, err)
		if !asked && !e.holder.isEdge() { // its port can only be guessed: in a container, it may not be published
			return skipped("health", "%s does not answer (%v): --health URL names the health port", target, err)
		}
		return s
	}
	e.health, e.HealthURL = h, target
	return ok("health", "%s says %s, up for %s (%s)", target, h.Status, time.Duration(h.Uptime*float64(time.Second)).Round(time.Second), millis(time.Since(began)))
}

// healthBeside is where the edge that holds the URL's port has its /health, or why
// that is not known: another edge's would tell of another edge.
func (e *examination) healthBeside() (target, why string) {
	if !e.here {
		return "", "the health port is not public: --health URL names it, or run the doctor where the edge runs"
	}
	host, port := e.environ("HEALTH_HOST", ""), e.environ("HEALTH_PORT", "8081")
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = e.host
	}
	number, _ := strconv.Atoi(port)
	switch other := Holder(host, number); {
	case number == 0:
		return "", "HEALTH_PORT is 0, so any port: --health URL names it"
	case e.holder.isEdge() && other != nil && other.PID != e.holder.PID:
		return "", fmt.Sprintf("port %s is held by %s, and not by the edge: --health URL names the edge's", port, other)
	case !e.holder.isEdge() && !e.OfEnviron && e.Environ["HEALTH_PORT"] == "":
		return "", "which edge is behind the port cannot be seen: --health URL, or HEALTH_PORT, names its health port"
	}
	return "http://" + net.JoinHostPort(host, port) + "/health", ""
}

func portOf(target string) string {
	request, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil || request.URL.Port() == "" {
		return "8081"
	}
	return request.URL.Port()
}

func askHealth(ctx context.Context, target string) (*health, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	data, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	var h health
	if err := json.Unmarshal(data, &h); err != nil || h.Status == "" {
		return nil, fmt.Errorf("it answers %s: %s", response.Status, excerpt(data))
	}
	return &h, nil
}

// asksAgain waits for the edge to see what the doctor sees: that the thing is
// well. Its checks are up to a second old.
func (e *examination) asksAgain(ctx context.Context, check string) (well bool) {
	for deadline := time.Now().Add(checkAge); ; {
		if h, err := askHealth(ctx, e.HealthURL); err == nil {
			e.health = h
		}
		if well, _, _ := e.says(check); well || time.Now().After(deadline) {
			return well
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}

const checkAge = 1500 * time.Millisecond

// says is what the edge says of one of the things it depends on.
func (e *examination) says(check string) (ok, known bool, why string) {
	if e.health == nil {
		return false, false, ""
	}
	c, known := e.health.Checks[check]
	return c.OK, known, c.Error
}
