package handlers_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/handlers"
)

func TestPlainHTTPIsToldTheURL(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for _, path := range []string{"/", "/v1/stream"} {
		response, body := get(t, "http://"+e.addr+path)
		must(t, response.StatusCode == 426 && strings.Contains(body, "ws://"+e.addr+"/v1/stream"), "%s: %d %s", path, response.StatusCode, body)
	}
	response, body := get(t, "http://"+e.addr+"/health")
	must(t, response.StatusCode == 404 && strings.Contains(body, "8081"), "%d %s", response.StatusCode, body)
	response, body = get(t, "http://"+e.addr+"/nothing")
	must(t, response.StatusCode == 404 && strings.Contains(body, "/v1/stream"), "%d %s", response.StatusCode, body)
}

// Who says nothing, and who goes on asking, holds no place for long.
func TestPlacesAreForWebSockets(t *testing.T) {
	e := startEdge(t, testConfig(), nil, func(cfg *handlers.StreamConfig) { cfg.HandshakeTimeout = 100 * time.Millisecond })
	for _, said := range []string{"", "G", "GET / HTTP/1.1\r\nHost: edge\r\n\r\n", "GET /nothing HTTP/1.1\r\nHost: edge\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"} {
		conn, err := net.Dial("tcp", e.addr)
		must(t, err == nil, "%v", err)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = io.WriteString(conn, said)
		must(t, err == nil, "%v", err)
		if _, err = io.Copy(io.Discard, conn); err != nil {
			t.Errorf("after %q: %v", said, err)
		}
		_ = conn.Close()
	}
}

// The header of a request ends where it ends, whatever is folded in it.
func TestNothingIsSmuggledInFolds(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	answer := raw(t, e.addr, "GET /first HTTP/1.1\r\nHost: edge\r\nX-F: a"+strings.Repeat("\r\n b", 18)+
		"\r\nX-Tail: 0123456789GET /smuggled HTTP/1.1\r\nQ: xxxxx\r\n\r\n")
	if n := strings.Count(answer, "HTTP/1.1 "); n > 1 {
		t.Errorf("%d answers to one request: %q", n, answer)
	}
}

// What a visitor sends is not logged, for it may be a key.
func TestMistakesAreNotLoggedWhole(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	raw(t, e.addr, "GET /v1/stream?ticket=SECRET HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer SECRET\r\nBad Header Line\r\n\r\n")
	raw(t, e.addr, "GET /v1/stream%3Fticket=SECRET HTTP/1.1\r\nHost: edge\r\n\r\n")
	if logs := e.logs.String(); strings.Contains(logs, "SECRET") || !strings.Contains(logs, `"path":"/v1/stream"`) {
		t.Errorf("the log says %s", logs)
	}
}

// raw sends bytes that are no good request and returns the answer.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err == nil, "%v", err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte(request))
	must(t, err == nil, "%v", err)
	err = conn.(*net.TCPConn).CloseWrite()
	must(t, err == nil, "%q: %v", request, err)
	answer, err := io.ReadAll(conn)
	must(t, err == nil, "%q: %v", request, err)
	return string(answer)
}

func TestOddVisitorsAreToldWhatIsHere(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for _, test := range []struct{ name, request, status, part string }{
		{"another method", "POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 0\r\n\r\n", "405", "ws://edge/v1/stream"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "426", "ws://" + e.addr + "/v1/stream"},
		{"plain HTTP", "GET / HTTP/1.1\r\nHost: edge\r\n\r\n", "426", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-Websocket-Version: 13"},
		{"a chunked body", "POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: edge\r\n\r\n", "405", "Connection: close"},
		{"a chunked GET", "GET / HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: edge\r\n\r\n", "426", "Connection: close"},
		{"not HTTP", "secret bytes\r\n\r\n", "400", "not an HTTP request"},
		{"no TLS here", "\x16\x03\x01\x00\x05hello", "400", "TLS on a plain port"},
	} {
		answer := raw(t, e.addr, test.request)
		must(t, strings.HasPrefix(answer, "HTTP/1.1 "+test.status) && strings.Contains(answer, test.part) && !strings.Contains(answer, "secret") && strings.Count(answer, "HTTP/1.1 ") == 1, "%s: %q", test.name, answer)
	}
}

func TestSubprotocolsMayComeInSeveralLines(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	answer := raw(t, e.addr, "GET / HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: another\r\nSec-WebSocket-Protocol: voxedge.binary.v1\r\n\r\n")
	must(t, strings.Contains(answer, "101 Switching Protocols") && strings.Contains(answer, "voxedge.binary.v1"), "%q", answer)
}

func TestAHandshakeThatIsNotWholeIsToldSo(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	for name, headers := range map[string][]string{
		"no key":      {"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13"},
		"old version": {"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "8", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
	} {
		response, body := get(t, "http://"+e.addr+"/", headers...)
		must(t, response.StatusCode == 426 && strings.Contains(body, "version 13"), "%s: %d %s", name, response.StatusCode, body)
	}
	eventually(t, "all places are free", func() bool { taken, _ := e.hub.Sessions(); return taken == 0 })
}

func TestTLSOnThePlainPortIsLogged(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	_, err := tls.Dial("tcp", e.addr, &tls.Config{InsecureSkipVerify: true})
	must(t, err != nil, "TLS was answered")
	eventually(t, "it is logged", func() bool {
		return strings.Contains(e.logs.String(), "speaks TLS to a plain port") && strings.Contains(e.logs.String(), "use ws://")
	})
}

// startHealth serves the health of the checks.
func startHealth(t *testing.T, checks []handlers.Check, ready handlers.Readiness) (addr string) {
	t.Helper()
	h := handlers.NewHealth(checks, ready, slog.New(slog.DiscardHandler))
	app := h.App(nil, 8080)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err == nil, "%v", err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() { h.Run(ctx); done <- struct{}{} }()
	go func() { _ = app.Listener(ln); done <- struct{}{} }()
	t.Cleanup(func() {
		cancel()
		_ = app.ShutdownWithTimeout(5 * time.Second)
		_ = ln.Close() // an app that has not yet begun to accept is not stopped by its shutdown
		<-done
		<-done
	})
	return ln.Addr().String()
}

type healthBody struct {
	Status string   `json:"status"`
	Redis  *bool    `json:"redis"`
	Worker *bool    `json:"worker"`
	Uptime *float64 `json:"uptime_seconds"`
	Checks map[string]struct {
		OK         *bool  `json:"ok"`
		Error      string `json:"error"`
		Resolution string `json:"resolution"`
	} `json:"checks"`
}

func TestHealthHasTheContractsFields(t *testing.T) {
	redis := make(chan error, 1)
	redis <- nil
	addr := startHealth(t, []handlers.Check{
		{Name: "redis", Resolution: "start it", Probe: func(context.Context) error { err := <-redis; redis <- err; return err }},
		{Name: "worker", Probe: func(context.Context) error { return nil }},
	}, func() error { return nil })

	read := func() (int, healthBody) {
		response, body := get(t, "http://"+addr+"/health")
		var b healthBody
		must(t, json.Unmarshal([]byte(body), &b) == nil, "%s", body)
		must(t, b.Redis != nil && b.Worker != nil && b.Uptime != nil && *b.Uptime > 0 && len(b.Checks) == 2, "%s", body)
		return response.StatusCode, b
	}
	eventually(t, "healthy", func() bool {
		status, b := read()
		return status == 200 && b.Status == "healthy" && *b.Redis && *b.Worker && *b.Checks["redis"].OK
	})
	<-redis
	redis <- errors.New("connection refused")
	eventually(t, "unhealthy", func() bool {
		status, b := read()
		return status == 503 && b.Status == "unhealthy" && !*b.Redis && *b.Worker &&
			b.Checks["redis"].Error == "connection refused" && b.Checks["redis"].Resolution == "start it"
	})
	<-redis
	redis <- nil
	eventually(t, "healthy again", func() bool { status, _ := read(); return status == 200 })
}

// A probe hangs for ever; every path answers all the same.
func TestHealthAnswersAtOnceWhenAProbeHangs(t *testing.T) {
	hanging := make(chan struct{})
	addr := startHealth(t, []handlers.Check{{Name: "redis", Probe: func(ctx context.Context) error {
		select {
		case <-hanging:
		default:
			close(hanging)
		}
		<-ctx.Done()
		return ctx.Err()
	}}}, func() error { return errors.New("starting") })
	<-hanging
	for path, want := range map[string]int{"/health": 503, "/readiness": 503, "/liveness": 200} {
		response, body := get(t, "http://"+addr+path)
		must(t, response.StatusCode == want, "%s: %d %s", path, response.StatusCode, body)
	}
}

func TestTheHealthPortTurnsOthersAway(t *testing.T) {
	addr := startHealth(t, nil, func() error { return nil })
	_, response, err := websocket.Dial(context.Background(), "ws://"+addr+"/", nil)
	must(t, err != nil && response.StatusCode == 426, "%v", err)
	body, _ := io.ReadAll(response.Body)
	must(t, strings.Contains(string(body), "port 8080"), "%s", body)

	post, err := http.Post("http://"+addr+"/health", "text/plain", strings.NewReader("x"))
	must(t, err == nil && post.StatusCode == 405, "%v", err)
	_ = post.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	not, text := get(t, "http://"+addr+"/nothing")
	must(t, not.StatusCode == 404 && strings.Contains(text, "/readiness"), "%s", text)
}
