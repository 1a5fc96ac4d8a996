package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Options say what to examine.
type Options struct {
	URL        string            // of the WebSocket
	OfEnviron  bool              // the URL is that of an edge with Environ
	Invalid    []Setting         // of Environ; with any of them that edge does not start
	ServerName string            // that the certificate is to be for; empty: the URL's host
	HealthURL  string            // of /health; empty: beside the edge, where it can be seen
	Header     http.Header       // for the handshake
	Platform   Platform          // empty: found out
	Environ    map[string]string // of the doctor; a local edge's own comes before it
	// WorkerTLS returns the TLS to workers that an environment asks for, or nil.
	WorkerTLS func(environ map[string]string) *tls.Config
}

// Setting is a variable whose value is not right.
type Setting struct{ Name, Cause, Resolution string }

// How long each may take. Where nothing answers, the whole is under five seconds.
const (
	resolveTimeout = 1500 * time.Millisecond
	dialTimeout    = 1500 * time.Millisecond
	answerTimeout  = 1500 * time.Millisecond // where the way is short
	longestAnswer  = 4 * time.Second
	silenceTimeout = 4800 * time.Millisecond // from the beginning until the first byte
	healthTimeout  = time.Second
	speechTimeout  = 4 * time.Second
)

// examination is one walk from the client's side inward.
type examination struct {
	Options
	report Report

	target *url.URL
	host   string
	port   string
	ips    []net.IPAddr
	conn   net.Conn
	began  time.Time
	dialed time.Duration // what it took to connect
	spoken bool          // something has come back over the connection
	here   bool          // the edge is on this machine
	holder *Process      // what listens at the port, where it can be seen
	ws     *websocket.Conn
	health *health // nil when it could not be seen
	heard  time.Duration
}

// Examine walks inward and stops at the first thing that is wrong.
func Examine(ctx context.Context, o Options) Report {
	began := time.Now()
	e := &examination{Options: o, began: began, report: Report{Of: whole(o.URL)}}
	defer func() {
		if e.conn != nil {
			_ = e.conn.Close()
		}
	}()
	for _, step := range []func(context.Context) Step{
		e.checkEnviron, e.checkURL, e.checkName, e.checkTCP, e.checkTLS, e.checkHandshake, e.checkStart, e.checkHealth, e.checkRedis, e.checkSessionRedis,
	} {
		if !e.take(step(ctx)) {
			break
		}
	}
	if e.going() && e.takeAll(e.checkWorkers(ctx)) {
		e.take(e.checkSpeech(ctx))
	}
	e.report.finish(began, fmt.Sprintf("All is well: a client here hears speech %d ms after its text.", e.heard.Milliseconds()))
	return e.report
}

// take adds the step, and reports whether to go on.
func (e *examination) take(s Step) bool {
	if s.Name != "" { // or it was nothing to look at
		e.report.Steps = append(e.report.Steps, s)
	}
	return s.Result != Failed
}

func (e *examination) takeAll(steps []Step) bool {
	for _, s := range steps {
		e.take(s)
	}
	return e.going()
}

func (e *examination) going() bool {
	return !slices.ContainsFunc(e.report.Steps, func(s Step) bool { return s.Result == Failed })
}

func ok(name, measured string, args ...any) Step {
	return Step{Name: name, Result: OK, Measured: fmt.Sprintf(measured, args...)}
}

func skipped(name, why string, args ...any) Step {
	return Step{Name: name, Result: Skipped, Measured: fmt.Sprintf(why, args...)}
}

// failed is a step that found the cause. blanks are the resolution's, besides
// those that every one has.
func (e *examination) failed(name string, c Cause, blanks map[string]string, evidence string, args ...any) Step {
	all := map[string]string{"host": e.host, "port": e.port, "app": appOf(e.host, e.Environ)}
	if e.holder != nil {
		all["pid"] = fmt.Sprint(e.holder.PID)
	}
	for k, v := range blanks {
		all[k] = v
	}
	return failed(name, c, e.platform(), all, e.hidden(fmt.Sprintf(evidence, args...)))
}

func (e *examination) platform() Platform {
	if e.Platform != "" {
		return e.Platform
	}
	return platformOf(e.host, e.Environ)
}

func failed(name string, c Cause, p Platform, blanks map[string]string, evidence string) Step {
	return Step{Name: name, Result: Failed, Measured: c.Title, Finding: &Finding{
		Cause: c.ID, Because: c.Title, Evidence: evidence, Resolution: c.resolution(p, blanks), Runbook: c.Link(), status: c.Status,
	}}
}

// warned makes a failure one that does not keep a client from being served.
func warned(s Step) Step {
	if s.Result == Failed {
		s.Result = Warning
	}
	return s
}

// patience is how long an answer is waited for: on a long way, or where a proxy
// hides how long it is, more than from a process of this machine.
func (e *examination) patience() time.Duration {
	wait := longestAnswer
	if e.here && e.holder != nil && !e.holder.isProxy() {
		wait = min(max(answerTimeout, 8*e.dialed), longestAnswer)
	}
	if !e.spoken {
		wait = min(wait, silenceTimeout-time.Since(e.began))
	}
	return max(wait, answerTimeout)
}

func what(s string) map[string]string { return map[string]string{"what": s} }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// secure reports whether the URL asks for TLS.
func (e *examination) secure() bool { return e.target.Scheme == "wss" }

// checkEnviron comes before the URL that is made of the environment.
func (e *examination) checkEnviron(context.Context) Step {
	if len(e.Invalid) == 0 {
		return Step{}
	}
	var names, causes []string
	for _, s := range e.Invalid {
		names, causes = append(names, s.Name), append(causes, s.Name+": "+s.Cause+" ("+s.Resolution+")")
	}
	return e.failed("environment", ConfigInvalid, what(strings.Join(names, ", ")), "%s", strings.Join(causes, "; "))
}

func (e *examination) checkURL(context.Context) Step {
	text := strings.TrimSpace(e.URL)
	u, err := url.Parse(text)
	seen := whole(text)
	if err != nil || u.Host == "" && !strings.Contains(text, "://") {
		if guess, guessErr := url.Parse("ws://" + text); guessErr == nil && guess.Hostname() != "" && !strings.Contains(text, "://") {
			return e.failed("url", URLInvalid, nil, "%q has no ws:// or wss:// at its front; perhaps %s is meant", seen, guessed(seen))
		}
		return e.failed("url", URLInvalid, nil, "%q cannot be read as a URL", seen)
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http", "https":
		meant := *u
		meant.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
		if meant.Path == "" {
			meant.Path = "/v1/stream"
		}
		return e.failed("url", URLScheme, what(meant.String()), "it begins with %s://", u.Scheme)
	default:
		return e.failed("url", URLInvalid, nil, "%s:// is not a WebSocket's scheme", u.Scheme)
	}
	e.target, e.host, e.port = u, u.Hostname(), u.Port()
	if e.host == "" {
		return e.failed("url", URLInvalid, nil, "%q has no host", seen)
	}
	if e.port == "" {
		e.port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if n, err := strconv.ParseUint(e.port, 10, 16); err != nil || n == 0 {
		return e.failed("url", URLInvalid, nil, "%s is not a port", e.port)
	}
	return ok("url", "%s", u.Redacted())
}

// whole is the URL with its user and password masked, whatever is in them: one
// that cannot be read may break off anywhere.
func whole(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	scheme, _, ok := strings.Cut(text[:at], "://")
	if ok {
		scheme += "://"
	} else {
		scheme = ""
	}
	return scheme + "***" + text[at:]
}

func guessed(text string) string {
	if !strings.Contains(text, "/") {
		text += "/v1/stream"
	}
	return "ws://" + text
}
