package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/voxedge/voxedge/doctor"
)

// retryInterval is the time between looks of doctor --wait and --watch.
const retryInterval = 500 * time.Millisecond

// doctorOptions is the command line of doctor, preflight and validate.
type doctorOptions struct {
	doctor.Options
	json  bool
	watch bool
	wait  time.Duration
}

// runDoctor finds out why a client cannot connect. Its exit status is the
// cause's.
func runDoctor(ctx context.Context, c command) error {
	o, err := c.doctorOptions()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(o.wait)
	last := "nothing"
	for {
		report := doctor.Examine(ctx, o.Options)
		if ctx.Err() != nil {
			return &fault{exitFailed, "interrupted", "Run it again"}
		}
		switch {
		case o.watch:
			if verdict := report.Verdict(); verdict != last { // what has not changed is not said again
				last = verdict
				if !o.json {
					_, _ = fmt.Fprintf(c.stdout, "— %s\n", report.Time.Format(time.DateTime))
				}
				c.show(&report, o.json)
			}
		case report.OK || !time.Now().Before(deadline):
			c.show(&report, o.json)
			return exitWith(report.Status)
		}
		select {
		case <-time.After(retryInterval):
		case <-ctx.Done():
			return exitWith(report.Status)
		}
	}
}

// exitWith ends the command with the status, with all being said.
func exitWith(status int) error {
	if status == exitOK {
		return nil
	}
	return &fault{status: status}
}

func (c command) show(r *doctor.Report, asJSON bool) {
	if asJSON {
		encoder := json.NewEncoder(c.stdout)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(r)
		return
	}
	r.Print(c.stdout)
}

func (c command) doctorOptions() (o doctorOptions, err error) {
	flags := c.flags("doctor [URL]")
	flags.StringVar(&o.HealthURL, "health", "", "URL of the edge's /health, where it is not beside the WebSocket")
	headers := flags.StringArray("header", nil, headerUsage)
	platform := flags.String("platform", "", platformUsage)
	flags.BoolVar(&o.json, "json", false, "report as one JSON object")
	flags.BoolVar(&o.watch, "watch", false, "look again and again, and say what changes")
	flags.DurationVar(&o.wait, "wait", 0, "keep trying for this long until all is well, as deploy scripts do")
	if err := flags.Parse(c.args); err != nil {
		return o, usageError(err)
	}
	switch flags.NArg() {
	case 0:
		o.URL, o.OfEnviron, o.ServerName = c.localURL(), true, c.certificateName()
	case 1:
		o.URL = flags.Arg(0)
	default:
		return o, &fault{exitUsage, fmt.Sprintf("doctor takes one URL, but was given %d", flags.NArg()), "Give the URL that the client uses"}
	}
	if o.Platform, err = platformNamed(*platform); err != nil {
		return o, err
	}
	if u, err := url.Parse(o.HealthURL); o.HealthURL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return o, &fault{exitUsage, "--health is not a URL", "Write it as http://host:8081/health"}
	}
	if o.wait < 0 {
		return o, &fault{exitUsage, "--wait is negative", "Give a time such as 30s"}
	}
	if o.Header, err = parseHeaders(*headers); err != nil {
		return o, err
	}
	if o.OfEnviron {
		_, problems := LoadConfig(c.environ)
		for _, p := range problems {
			o.Invalid = append(o.Invalid, doctor.Setting{Name: p.Name, Cause: withoutUser(p.Cause, c.environ[p.Name]), Resolution: p.Resolution})
		}
	}
	o.Environ = c.environ
	o.WorkerTLS = func(environ map[string]string) *tls.Config {
		cfg, _ := LoadConfig(environ) // what is wrong with it is validate's to say
		secure, err := workerTLS(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil
		}
		return secure
	}
	return o, nil
}

// localURL is the WebSocket of an edge on this machine with the environment.
func (c command) localURL() string {
	scheme, host, port := "ws", c.environ["HOST"], c.environ["PORT"]
	if c.environ["TLS_CERT_FILE"] != "" {
		scheme = "wss"
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	if port == "" {
		port = fmt.Sprint(defaultPort)
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/v1/stream"
}

// certificateName is a name that TLS_CERT_FILE is for: it is seldom that by which
// an edge is reached from its own machine. It is empty where there is none.
func (c command) certificateName() string {
	pair, err := tls.LoadX509KeyPair(c.environ["TLS_CERT_FILE"], c.environ["TLS_KEY_FILE"])
	if err != nil {
		return "" // preflight says why
	}
	for _, name := range pair.Leaf.DNSNames {
		return strings.Replace(name, "*", "edge", 1)
	}
	for _, ip := range pair.Leaf.IPAddresses {
		return ip.String()
	}
	return ""
}

const platformUsage = "how the edge is run (local, compose or fly), for the commands to type; default: found out"

func platformNamed(name string) (doctor.Platform, error) {
	p := doctor.Platform(name)
	if name != "" && !slices.Contains(doctor.Platforms, p) {
		return p, &fault{exitUsage, fmt.Sprintf("%q is not a platform", name), "Use local, compose or fly"}
	}
	return p, nil
}

const headerUsage = "'Name: value' for the handshake, such as 'Authorization: Bearer …'; may be repeated"

func parseHeaders(lines []string) (http.Header, error) {
	header := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, &fault{exitUsage, "a header has no colon", "Write it as 'Name: value'"}
		}
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, &fault{exitUsage, "a header has a line end in it", "Give each header a --header of its own"}
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return header, nil
}
