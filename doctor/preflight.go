package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Plan is what an edge is about to need.
type Plan struct {
	Ports          []Port
	MaxConnections int
	RedisURL       string // empty: none is needed
	SessionRedis   string // SESSION_REDIS_URL; empty: there is no other than RedisURL
	WorkerAddr     string // empty: workers are looked up in Redis
	Collector      string // OTLP endpoint; empty: none
	TraceBytes     int    // memory for spans
	CertFile       string // of the public port; empty: no TLS
	KeyFile        string
	WorkerTLS      *tls.Config // to workers; nil: none
	Platform       Platform
	App            string // on Fly; empty: not known
}

// Port is one that is to be listened at.
type Port struct {
	Variable string
	Host     string
	Number   int
}

// What an edge takes, measured, and rounded up.
const (
	baseMemory       = 48 << 20
	sessionMemory    = 320 << 10 // of one whose client reads nothing: queue, stream window, what waits for the socket
	spareDescriptors = 100

	tolerableSkew   = 2 * time.Second
	defaultOTLPPort = "4318"
)

// Preflight looks at everything that an edge needs before it starts.
func Preflight(ctx context.Context, p Plan) Report {
	began := time.Now()
	e := &examination{Options: Options{Platform: p.Platform, Environ: map[string]string{"WORKER_ADDR": p.WorkerAddr, "REDIS_URL": p.RedisURL, "SESSION_REDIS_URL": p.SessionRedis, "FLY_APP_NAME": p.App}, WorkerTLS: func(map[string]string) *tls.Config { return p.WorkerTLS }}, here: true}
	e.report.Of = "preflight"
	for _, port := range p.Ports {
		e.take(e.checkPort(port))
	}
	e.take(e.checkDescriptors(p))
	e.take(e.checkMemory(p))
	if p.CertFile != "" {
		e.take(e.checkCertificate(p.CertFile, p.KeyFile))
	}
	redisWell := true
	if p.RedisURL != "" {
		redisWell = e.take(e.checkRedis(ctx))
	}
	e.take(e.checkSessionRedis(ctx))
	if redisWell {
		e.take(e.checkClock(ctx, p.RedisURL))
		e.takeAll(e.checkWorkers(ctx))
	}
	if p.Collector != "" {
		e.take(warned(e.checkCollector(ctx, p.Collector)))
	}
	e.report.finish(began, "Ready: an edge can start here.")
	return e.report
}

func (e *examination) checkPort(p Port) Step {
	name := fmt.Sprintf("port %d", p.Number)
	ln, err := net.Listen("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Number)))
	if err == nil {
		_ = ln.Close()
		return ok(name, "free, for %s", p.Variable)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		holder := Holder(p.Host, p.Number)
		blanks := map[string]string{"what": p.Variable, "pid": "<pid>"}
		if holder != nil {
			blanks["pid"] = strconv.Itoa(holder.PID)
		}
		return e.failed(name, PortTaken, blanks, "it is held by %s", named(holder))
	}
	return e.failed(name, ConfigInvalid, what(p.Variable+" and its host"), "%v", err)
}

func (e *examination) checkDescriptors(p Plan) Step {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return skipped("descriptors", "%v", err)
	}
	need := uint64(p.MaxConnections + spareDescriptors) //nolint:gosec // both are small
	if limit.Cur < need {
		return e.failed("descriptors", FewDescriptors, what(strconv.FormatUint(need, 10)), "the limit is %d, and MAX_CONNECTIONS=%d needs %d", limit.Cur, p.MaxConnections, need)
	}
	return ok("descriptors", "%d, for MAX_CONNECTIONS=%d", limit.Cur, p.MaxConnections)
}

func (e *examination) checkMemory(p Plan) Step {
	limit := MemoryLimit()
	if limit == 0 {
		return ok("memory", "no limit is set")
	}
	base := uint64(baseMemory + p.TraceBytes)                     //nolint:gosec // positive
	need := base + uint64(p.MaxConnections)*uint64(sessionMemory) //nolint:gosec // positive
	if need > limit {
		fits := uint64(1)
		if limit > base {
			fits = max(1, (limit-base)/sessionMemory)
		}
		return e.failed("memory", LittleMemory, what(strconv.FormatUint(fits, 10)), "the limit is %d MB, and MAX_CONNECTIONS=%d may take %d MB when no client reads", limit>>20, p.MaxConnections, need>>20)
	}
	return ok("memory", "%d MB, of which MAX_CONNECTIONS=%d may take %d MB", limit>>20, p.MaxConnections, need>>20)
}

func (e *examination) checkCertificate(certFile, keyFile string) Step {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return e.failed("certificate", ConfigInvalid, what("TLS_CERT_FILE and TLS_KEY_FILE"), "%v", err)
	}
	leaf := pair.Leaf
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return e.failed("certificate", CertExpired, nil, "%s is valid from %s to %s", certFile, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return ok("certificate", "valid until %s", leaf.NotAfter.Format(time.DateOnly))
}

// checkClock holds the clock against Redis', the one machine that is known.
func (e *examination) checkClock(ctx context.Context, target string) Step {
	if target == "" {
		return Step{}
	}
	client, err := newRedis(target)
	if err != nil {
		return Step{}
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	before := time.Now()
	theirs, err := client.Time(ctx).Result()
	if err != nil {
		return skipped("clock", "Redis does not tell the time: %v", err)
	}
	skew := theirs.Sub(before.Add(time.Since(before) / 2)).Abs()
	if skew > tolerableSkew {
		return warned(e.failed("clock", ClockWrong, nil, "it differs from Redis' by %s", skew.Round(time.Millisecond)))
	}
	return ok("clock", "%s from Redis'", millis(skew))
}

func (e *examination) checkCollector(ctx context.Context, endpoint string) Step {
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" {
		return e.failed("collector", ConfigInvalid, what("OTEL_EXPORTER_OTLP_ENDPOINT"), "%q is not a URL", endpoint)
	}
	port := u.Port()
	if port == "" {
		port = defaultOTLPPort
	}
	began := time.Now()
	if err := dialHost(ctx, net.JoinHostPort(u.Hostname(), port)); err != nil {
		return e.failed("collector", CollectorUnanswered, nil, "%s: %v", u.Redacted(), err)
	}
	return ok("collector", "%s accepts (%s)", u.Redacted(), millis(time.Since(began)))
}
