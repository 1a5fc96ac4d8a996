package doctor

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const healthWords = "This port serves health to the platform. The WebSocket is on port 8080.\n"

// What a proxy answers is not taken for what it hides.
func TestAnswersOfProxies(t *testing.T) {
	edge := &Process{PID: 1, Command: "voxedge serve"}
	for _, tt := range []struct {
		name, url string
		status    int
		header    string // a name and a value
		body      string
		holder    *Process
		want      Cause
		says, not string // of the resolution
	}{
		{"plain HTTP to TLS", "ws://h/", 400, "", "Client sent an HTTP request to an HTTPS server.", nil, PlainToTLS, "wss://", ""},
		{"a proxy's plain HTTP to TLS", "wss://h/", 400, "", "Client sent an HTTP request to an HTTPS server.", nil, BadGateway, "proxy_pass https://", "wss://"},
		{"a client's certificate", "wss://h/", 400, "Server: nginx", "<title>400 No required SSL certificate was sent</title>", nil, TLSFailed, "", "wss://"},
		{"the health port", "ws://h:8081/", 426, "", healthWords, nil, HealthPort, "Use port 8080", ""},
		{"the health port of the holder", "ws://h:9000/", 426, "", healthWords, edge, HealthPort, "Use port 8080", ""},
		{"the health port behind a proxy", "wss://voice.example/", 426, "", healthWords, nil, HealthPort, "upstream to the edge's PORT, 8080", "Use port"},
		{"the health port behind Fly's", "wss://voice.fly.dev/", 426, "", healthWords, nil, HealthPort, "internal_port = 8080", "Use port"},
		{"the health port behind a published one", "ws://edge:80/", 426, "", healthWords, nil, HealthPort, `"80:8080"`, "Use port"},
		{"no route in nginx", "wss://h/v1/stream", 404, "Server: nginx/1.25", "", nil, WrongPath, "pass /v1/stream on", "end that program"},
		{"nginx fails", "wss://h/", 500, "Server: nginx", "", nil, BadGateway, "", "end that program"},
		{"Cloudflare's origin is down", "wss://h/", 521, "Server: cloudflare", "", nil, BadGateway, "", "end that program"},
		{"Cloudflare waits in vain", "wss://h/", 522, "Server: cloudflare", "", nil, GatewayTimeout, "", "end that program"},
		{"Cloudflare's tunnel is down", "wss://h/", 530, "Server: cloudflare", "error code: 1033", nil, BadGateway, "", "end that program"},
		{"one that says Via", "wss://h/", 500, "Via: 1.1 relay", "", nil, BadGateway, "", "end that program"},
		{"a program of its own", "ws://h/", 404, "Server: SimpleHTTP/0.6", "", nil, OtherProgram, "end that program", ""},
		{"a proxy's password", "ws://h/", 407, "", "", nil, Unauthorized, "Proxy-Authorization", "Bearer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			e := &examination{target: u, host: u.Hostname(), port: u.Port(), holder: tt.holder}
			r := &http.Response{StatusCode: tt.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(tt.body))}
			if name, value, ok := strings.Cut(tt.header, ": "); ok {
				r.Header.Set(name, value)
			}
			s := e.badStatus(r, nil)
			if s.Cause != tt.want.ID || !strings.Contains(s.Resolution, tt.says) || tt.not != "" && strings.Contains(s.Resolution, tt.not) {
				t.Errorf("the verdict is %s, %q; want %s", s.Cause, s.Resolution, tt.want.ID)
			}
		})
	}
}
