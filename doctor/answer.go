package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/session"
)

// tapped remembers the first bytes that came, and how reading ended.
type tapped struct {
	net.Conn
	first []byte
	err   error
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if room := 4096 - len(t.first); room > 0 {
		t.first = append(t.first, p[:min(n, room)]...)
	}
	if err != nil && t.err == nil {
		t.err = err
	}
	return n, err
}

func (e *examination) checkTLS(ctx context.Context) Step {
	if !e.secure() {
		return Step{}
	}
	began, patience := time.Now(), e.patience()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	raw, name, of := &tapped{Conn: e.conn}, e.host, ""
	if e.ServerName != "" {
		name, of = e.ServerName, " for "+e.ServerName
	}
	conn := tls.Client(raw, &tls.Config{ServerName: name, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	err := conn.HandshakeContext(ctx)
	if err == nil {
		e.conn, e.spoken = conn, true
		state := conn.ConnectionState()
		leaf := state.PeerCertificates[0]
		return ok("tls", "%s, certificate%s of %s until %s (%s)", tls.VersionName(state.Version), of, leaf.Issuer.CommonName, leaf.NotAfter.Format(time.DateOnly), millis(time.Since(began)))
	}
	if bad, isBad := errors.AsType[*tls.CertificateVerificationError](err); isBad {
		return e.badCertificate(bad)
	}
	if _, isPlain := errors.AsType[tls.RecordHeaderError](err); isPlain {
		return e.failed("tls", TLSToPlain, nil, "the answer to a TLS greeting is %s", excerpt(raw.first))
	}
	if len(raw.first) == 0 {
		return e.noAnswer("tls", patience, raw.err, err)
	}
	return e.failed("tls", TLSFailed, nil, "%v", err)
}

func (e *examination) badCertificate(bad *tls.CertificateVerificationError) Step {
	leaf := bad.UnverifiedCertificates[0]
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](bad.Err); isInvalid && invalid.Reason == x509.Expired {
		return e.failed("tls", CertExpired, nil, "it is valid from %s to %s, and here it is %s",
			leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339), time.Now().Format(time.RFC3339))
	}
	if _, isName := errors.AsType[x509.HostnameError](bad.Err); isName {
		return e.failed("tls", CertName, what(strings.Join(names, ", ")), "it is for %s, and the URL says %s", strings.Join(names, ", "), e.host)
	}
	if _, isUnknown := errors.AsType[x509.UnknownAuthorityError](bad.Err); isUnknown {
		return e.failed("tls", CertUnknown, nil, "its issuer is %s", leaf.Issuer)
	}
	return e.failed("tls", TLSFailed, nil, "%v", bad.Err)
}

// checkHandshake asks for the WebSocket on the connection that is open.
func (e *examination) checkHandshake(ctx context.Context) Step {
	began, patience := time.Now(), e.patience()
	raw := &tapped{Conn: e.conn}
	dial := func(context.Context, string, string) (net.Conn, error) { return raw, nil }
	client := &http.Client{
		Transport:     &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws, response, err := websocket.Dial(asking, e.target.String(), &websocket.DialOptions{ //nolint:bodyclose // Dial has read it
		HTTPClient: client, HTTPHeader: e.Header, Subprotocols: []string{session.BinaryProtocol},
	})
	switch {
	case err == nil:
		e.ws, e.spoken = ws, true
		ws.SetReadLimit(1 << 20)
		return ok("handshake", "101 %s", millis(time.Since(began)))
	case response != nil:
		return e.badStatus(response, err)
	case saysTLS(raw.err), saysTLS(err): // TLS 1.3 says so after its handshake, to who reads or to who writes
		return e.failed("handshake", TLSFailed, nil, "%v", firstOf(raw.err, err))
	case len(raw.first) == 0:
		return e.noAnswer("handshake", patience, raw.err, err)
	case raw.first[0] == 0x15, bytes.HasPrefix(raw.first, []byte{0x16, 3}): // a TLS alert, or greeting
		return e.plainToTLS("handshake", "the answer to plain HTTP is a TLS record")
	}
	return e.otherProgram("handshake", "it says %s, which is not HTTP", excerpt([]byte(e.hidden(string(raw.first)))))
}

// saysTLS reports whether the other side has said what is wrong with the TLS.
func saysTLS(err error) bool {
	return err != nil && strings.Contains(err.Error(), "remote error: tls:")
}

func (e *examination) otherProgram(step, evidence string, args ...any) Step {
	evidence = fmt.Sprintf(evidence, args...)
	if e.holder != nil {
		evidence += "; the port is held by " + e.holder.String()
	}
	return e.failed(step, OtherProgram, nil, "%s", evidence)
}

// noAnswer tells silence from a connection that is cut.
func (e *examination) noAnswer(step string, patience time.Duration, readErr, err error) Step {
	held := ""
	if e.holder != nil {
		held = "; the port is held by " + e.holder.String()
	}
	switch {
	case e.holder != nil && e.holder.Stopped:
		return e.failed(step, ProcessStopped, nil, "%s is in state T and answers nothing", e.holder)
	case errors.Is(readErr, syscall.ECONNRESET), errors.Is(readErr, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE):
		if e.holder != nil && !e.holder.isEdge() && !e.holder.isProxy() {
			return e.otherProgram(step, "it hangs up on a WebSocket's request")
		}
		return e.failed(step, ConnectionReset, nil, "it was cut before one byte came (%v)%s", firstOf(readErr, err), held)
	case isTimeout(err), errors.Is(readErr, os.ErrDeadlineExceeded), errors.Is(readErr, net.ErrClosed):
		return e.failed(step, Silent, nil, "not one byte came within %s%s", patience.Round(10*time.Millisecond), held)
	}
	return e.failed(step, ConnectionReset, nil, "%v%s", firstOf(readErr, err), held)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// plainToTLS is plain HTTP that came to a port with TLS. Where the URL has TLS, it
// is not the client that spoke it.
func (e *examination) plainToTLS(step, evidence string) Step {
	if !e.secure() {
		return e.failed(step, PlainToTLS, nil, "%s", evidence)
	}
	s := e.failed(step, BadGateway, nil, "%s, and the URL says TLS: it ends at a proxy, which speaks plain HTTP to what speaks TLS", evidence)
	s.Resolution = "Have the proxy speak TLS to the edge (nginx: proxy_pass https://…), or unset TLS_CERT_FILE of the edge"
	return s
}

// onHealthPort is an answer of the health port, which names the public one.
func (e *examination) onHealthPort(step, public, evidence string) Step {
	s := e.failed(step, HealthPort, what(public), "%s", evidence)
	if !e.secure() && (e.holder.isEdge() || e.port == e.environ("HEALTH_PORT", "8081")) {
		return s
	}
	switch e.platform() {
	case Local:
		s.Resolution = fmt.Sprintf("What is between (a proxy, or a port that is published) has the health port for its upstream: set its upstream to the edge's PORT, %s", public)
	case Compose:
		s.Resolution = fmt.Sprintf("The published port leads to the health port: set ports: [\"%s:%s\"] in docker-compose.yml; docker compose up -d orchestrator", e.port, public)
	case Fly:
		s.Resolution = fmt.Sprintf("Fly's proxy has the health port for its upstream: set internal_port = %s, the edge's PORT, in fly.toml; fly deploy -a %s", public, appOf(e.host, e.Environ))
	}
	return s
}

// proxyOf is what a proxy calls itself in an answer; empty where none does.
func proxyOf(response *http.Response) string {
	server := response.Header.Get("Server")
	if slices.ContainsFunc([]string{"nginx", "openresty", "cloudflare", "fly/", "envoy", "caddy", "traefik", "haproxy", "awselb", "cloudfront", "varnish", "google frontend", "akamai", "azure"}, func(name string) bool {
		return strings.Contains(strings.ToLower(server), name)
	}) {
		return server
	}
	return response.Header.Get("Via")
}

// fromProxy is an answer of a proxy that is none of the edge's, if it is one.
func (e *examination) fromProxy(step, proxy string, status int, evidence string) (s Step, ok bool) {
	switch {
	case proxy == "":
		return s, false
	case status == 522, status == 524: // Cloudflare's
		s = e.failed(step, GatewayTimeout, nil, "%s", evidence)
	case status >= 500:
		s = e.failed(step, BadGateway, nil, "%s", evidence)
	case status == http.StatusNotFound:
		s = e.failed(step, WrongPath, nil, "%s", evidence)
		s.Resolution = fmt.Sprintf("Have the proxy pass %s on to the edge's address and PORT, or correct the host and path in the URL (the edge's is /v1/stream)", e.target.Path)
	default:
		return s, false
	}
	return s, true
}

// badStatus reads an answer that is not 101.
func (e *examination) badStatus(response *http.Response, dialErr error) Step {
	const step = "handshake"
	data, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	body := strings.TrimSpace(e.hidden(string(data))) // before it is cut
	evidence := fmt.Sprintf("it answers %s: %.200s", response.Status, Shown(body))
	var refusal struct{ Code, Message string }
	if json.Unmarshal(data, &refusal) == nil && refusal.Code != "" {
		return e.refusedWith(step, refusal.Code, fmt.Sprintf("it answers %s, %s: %s", response.Status, refusal.Code, refusal.Message))
	}
	switch response.StatusCode {
	case http.StatusSwitchingProtocols:
		return e.otherProgram(step, "it answers 101, but not as a WebSocket does (%v)", dialErr)
	case http.StatusUpgradeRequired:
		if port, isHealth := healthAnswer(body); isHealth {
			return e.onHealthPort(step, port, evidence)
		}
		return e.failed(step, UpgradeStripped, nil, "the upgrade was asked for, and %s", evidence)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return e.failed(step, Redirected, what(redirection(e.target, response)), "%s, to %s", evidence, response.Header.Get("Location"))
	case http.StatusUnauthorized:
		return e.failed(step, Unauthorized, nil, "%s", evidence)
	case http.StatusProxyAuthRequired:
		s := e.failed(step, Unauthorized, nil, "%s", evidence)
		s.Resolution = "Give the proxy's user and password: --header 'Proxy-Authorization: Basic <user:password in base64>'"
		return s
	case http.StatusForbidden:
		return e.failed(step, Forbidden, nil, "%s", evidence)
	case http.StatusTooManyRequests:
		return e.failed(step, RateLimited, nil, "%s (Retry-After: %s)", evidence, response.Header.Get("Retry-After"))
	case http.StatusBadGateway:
		return e.failed(step, BadGateway, nil, "%s", evidence)
	case http.StatusServiceUnavailable:
		return e.failed(step, NoUpstream, nil, "%s", evidence)
	case http.StatusGatewayTimeout:
		return e.failed(step, GatewayTimeout, nil, "%s", evidence)
	case http.StatusBadRequest:
		switch {
		case strings.Contains(body, "SSL certificate"), strings.Contains(body, "client certificate"):
			return e.failed(step, TLSFailed, nil, "%s", evidence)
		case strings.Contains(body, "HTTPS"):
			return e.plainToTLS(step, evidence)
		}
	case http.StatusNotFound:
		if strings.Contains(body, "The WebSocket is at") {
			return e.failed(step, WrongPath, nil, "%s", evidence)
		}
	}
	proxy := proxyOf(response)
	if s, ok := e.fromProxy(step, proxy, response.StatusCode, evidence+"; it is the answer of a proxy, "+proxy); ok {
		return s
	}
	if server := response.Header.Get("Server"); server != "" {
		evidence += "; it calls itself " + server
	}
	return e.otherProgram(step, "%s", evidence)
}

// healthAnswer recognises the health port, which names the public one.
func healthAnswer(body string) (port string, ok bool) {
	_, rest, ok := strings.Cut(body, "This port serves health to the platform. The WebSocket is on port ")
	return strings.TrimRight(rest, ".\n"), ok
}

func redirection(from *url.URL, response *http.Response) string {
	to, err := from.Parse(response.Header.Get("Location"))
	if err != nil {
		return response.Header.Get("Location")
	}
	switch to.Scheme {
	case "https":
		to.Scheme = "wss"
	case "http":
		to.Scheme = "ws"
	}
	return to.String()
}

// refusedWith finds the cause behind an error code of the edge.
func (e *examination) refusedWith(step, code, evidence string) Step {
	cause, ok := CauseOf(session.Code(code))
	if !ok {
		cause = Refused
	}
	return e.failed(step, cause, nil, "%s", evidence)
}

// CauseOf is what a client's error code means to whoever looks for its cause.
func CauseOf(code session.Code) (Cause, bool) {
	cause, ok := map[session.Code]Cause{
		session.AtCapacity: AtCapacity, session.Draining: EdgeDraining, session.Unauthorized: Unauthorized,
		session.ForbiddenOrigin: Forbidden, session.RateLimited: RateLimited, session.WorkerUnavailable: WorkerUnavailable,
		session.SynthesisFailed: SynthesisFailed,
	}[code]
	return cause, ok
}

// message is what the doctor reads of an edge's messages.
type message struct {
	Type         string
	SessionID    string `json:"session_id"`
	Code         string
	Message      string
	Reason       string
	LastSequence uint64 `json:"last_sequence"`
}

func (e *examination) checkStart(ctx context.Context) Step {
	began, patience := time.Now(), e.patience()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, data, err := e.ws.Read(waiting)
	if err != nil {
		return e.failed("session_start", NoSessionStart, nil, "no message came within %s (%v)", patience, err)
	}
	var m message
	if json.Unmarshal(data, &m) != nil {
		return e.failed("session_start", NoSessionStart, nil, "the first message is %s", excerpt(data))
	}
	switch {
	case m.Type == "error":
		return e.refusedWith("session_start", m.Code, m.Code+": "+m.Message)
	case m.Type != "session_start" || m.SessionID == "":
		return e.failed("session_start", NoSessionStart, nil, "the first message is %s", excerpt(data))
	}
	return ok("session_start", "session %s (%s)", m.SessionID, millis(time.Since(began)))
}
