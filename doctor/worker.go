package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/proto"
)

const (
	workerTimeout = time.Second
	maxWorkers    = 200 // that are looked at, all at once
	maxShown      = 20  // one by one; of more, those that are not well
)

// checkWorkers looks at each worker that the edge would. One that is not well
// beside another that is keeps nobody from being served.
func (e *examination) checkWorkers(ctx context.Context) []Step {
	well, known, why := e.says("worker")
	announced, bad, seen := e.workers(ctx)
	steps := slices.Clone(bad)
	if seen && len(announced) == 0 && len(bad) == 0 {
		return []Step{e.failed("workers", NoWorker, nil, "there is no key %s* in Redis, and WORKER_ADDR is empty", clients.RegistryPrefix)}
	}
	looks := make([]Step, min(len(announced), maxWorkers))
	var looking sync.WaitGroup
	for i := range looks {
		looking.Go(func() { looks[i] = e.checkWorker(ctx, announced[i]) })
	}
	looking.Wait()
	steps = append(steps, shown(looks, len(announced))...)
	anyWell := slices.ContainsFunc(steps, func(s Step) bool { return s.Result == OK })
	if known && !well && anyWell {
		well = e.asksAgain(ctx, "worker")
		_, _, why = e.says("worker")
	}
	switch {
	case known && !well && (anyWell || len(steps) == 0):
		// The edge sees them otherwise than the doctor does.
		cause := WorkerUnavailable
		if strings.Contains(why, "no worker is known") {
			cause = NoWorker
		} else if strings.Contains(why, "full") {
			cause = WorkersBusy
		}
		steps = append(steps, e.failed("workers", cause, nil, "the edge says: %s", why))
	case anyWell, known && well && !e.holder.isEdge(): // one that is elsewhere may reach what the doctor does not
		for i := range steps {
			steps[i] = warned(steps[i])
		}
	}
	return steps
}

// shown is what is said of the workers that were looked at.
func shown(looks []Step, announced int) []Step {
	if announced <= maxShown {
		return looks
	}
	unwell := slices.DeleteFunc(slices.Clone(looks), func(s Step) bool { return s.Result == OK })
	well := len(looks) - len(unwell)
	steps := slices.Clone(unwell[:min(len(unwell), maxShown)])
	counted := skipped("workers", "%d are announced, %d were looked at, and %d are well", announced, len(looks), well)
	if well > 0 {
		counted.Result = OK
	}
	return append(steps, counted)
}

// workers are those of WORKER_ADDR or Redis; seen is false where neither can
// be looked at from here.
func (e *examination) workers(ctx context.Context) (found []clients.Announcement, bad []Step, seen bool) {
	if static := e.environ("WORKER_ADDR", ""); static != "" {
		found, err := clients.StaticWorkers(static)
		if err != nil {
			return nil, []Step{e.failed("workers", ConfigInvalid, what("WORKER_ADDR"), "%v", err)}, true
		}
		return found, nil, true
	}
	target := e.redisURL()
	if target == "" {
		return nil, nil, false
	}
	found, bad, err := announcements(ctx, target, func(name string, err error) Step {
		return e.failed("worker "+name, WorkerBadAnnounce, nil, "%s%s: %v", clients.RegistryPrefix, name, err)
	})
	if err == nil {
		return found, bad, true
	}
	s := e.failed("workers", redisCause(err), nil, "looking for %s* in %s: %v", clients.RegistryPrefix, redacted(target), err)
	if well, known, _ := e.says("worker"); known && well { // the edge has those of before
		s = warned(s)
	}
	return nil, []Step{s}, true
}

// announcements reads the registry as an edge does.
func announcements(ctx context.Context, target string, unreadable func(name string, err error) Step) (found []clients.Announcement, bad []Step, err error) {
	client, err := newRedis(target)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var keys []string
	iter := client.Scan(ctx, 0, clients.RegistryPrefix+"*", 500).Iterator()
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	if err := iter.Err(); err != nil {
		return nil, nil, err
	}
	slices.Sort(keys)
	for keys := range slices.Chunk(slices.Compact(keys), 500) {
		texts, err := client.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, nil, err
		}
		for i, key := range keys {
			text, ok := texts[i].(string)
			if !ok {
				continue // it has just expired
			}
			name := strings.TrimPrefix(key, clients.RegistryPrefix)
			a, err := clients.ParseAnnouncement([]byte(text), name)
			if err != nil {
				bad = append(bad, unreadable(name, err))
				continue
			}
			found = append(found, a)
		}
	}
	return found, bad, nil
}

func (e *examination) checkWorker(ctx context.Context, a clients.Announcement) Step {
	name := "worker " + a.Name
	if a.Name == a.Addr {
		name = "worker"
	}
	began := time.Now()
	cause, reply, err := askWorker(ctx, a.Addr, e.workerTLS())
	if err != nil {
		if host, _, _ := net.SplitHostPort(a.Addr); cause.ID == WorkerClosed.ID && a.Name != a.Addr && isHere(net.ParseIP(host)) {
			err = fmt.Errorf("%w; if that worker runs on another machine, it must announce another address (WORKER_ADVERTISE)", err)
		}
		return e.failed(name, cause, nil, "%s: %v", a.Addr, err)
	}
	limit, sessions := reply.GetCapabilities().GetMaxConcurrentSessions(), reply.GetMetrics()["sessions"]
	if limit > 0 && sessions >= float64(limit) {
		return e.failed(name, WorkersBusy, nil, "%s: %.0f of %d sessions are taken", a.Addr, sessions, limit)
	}
	return ok(name, "%s serves %s (%s)", a.Addr, strings.Join(reply.GetResidentModels(), ", "), millis(time.Since(began)))
}

// workerTLS is the edge's where its environment can be read.
func (e *examination) workerTLS() *tls.Config {
	if e.WorkerTLS == nil {
		return nil
	}
	if e.holder.isEdge() && len(e.holder.Environ) > 0 {
		return e.WorkerTLS(e.holder.Environ)
	}
	return e.WorkerTLS(e.Environ)
}

// askWorker asks all that an edge asks before it sends a session.
func askWorker(ctx context.Context, addr string, secure *tls.Config) (Cause, *proto.GetCapabilitiesResponse, error) {
	if err := dialHost(ctx, addr); err != nil {
		switch {
		case isNotFound(err):
			return WorkerUnreachable, nil, err
		case errors.Is(err, syscall.ECONNREFUSED):
			return WorkerClosed, nil, err
		case isTimeout(err):
			return WorkerDropped, nil, fmt.Errorf("%w: nothing came back within %s", err, dialTimeout)
		}
		return WorkerUnreachable, nil, err
	}
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(transport))
	if err != nil {
		return WorkerError, nil, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, workerTimeout)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented: // judged by GetCapabilities alone
	case err != nil:
		return causeOfWorker(ctx, addr, secure, err), nil, err
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return WorkerNotServing, nil, fmt.Errorf("its health is %s", answer.GetStatus())
	}
	reply, err := proto.NewTTSServiceClient(conn).GetCapabilities(ctx, &proto.GetCapabilitiesRequest{})
	if err != nil {
		return causeOfWorker(ctx, addr, secure, err), nil, err
	}
	return Cause{}, reply, nil
}

// causeOfWorker tells it from a failed call, and where that was plain, by
// greeting the port with TLS.
func causeOfWorker(ctx context.Context, addr string, secure *tls.Config, err error) Cause {
	if secure != nil {
		what := tlsProblem(err.Error())
		if what == "" && status.Code(err) == codes.Unavailable {
			what = rejection(ctx, addr, secure)
		}
		if what != "" {
			return WorkerTLS.of(what)
		}
	}
	cause := workerCause(err)
	if secure == nil && (cause.ID == WorkerNotGRPC.ID || cause.ID == WorkerError.ID) && speaksTLS(ctx, addr) {
		return WorkerTLS.of("the worker speaks TLS, so WORKER_TLS_CA must name the authority of its certificate")
	}
	return cause
}

// tlsProblem is what to do about a failed handshake; empty where it did not fail.
func tlsProblem(text string) string {
	says := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case says("first record does not look like a TLS handshake"), says("authentication handshake failed: EOF"), says("authentication handshake failed: read tcp"):
		return "the worker speaks no TLS, so unset WORKER_TLS_CA, or give the worker a certificate"
	case says("remote error: tls:"):
		return "the worker wants a certificate that it trusts in WORKER_TLS_CERT, with its key in WORKER_TLS_KEY"
	case says("x509: certificate signed by unknown authority"):
		return "WORKER_TLS_CA must hold the authority that issued the worker's certificate"
	case says("x509: certificate is valid for"), says("x509: cannot validate certificate for"), says("x509: certificate is not valid for any names"):
		return "WORKER_TLS_SERVER_NAME must be a name that the worker's certificate is for"
	case says("x509:"), says("tls:"), says("authentication handshake failed"):
		return "the worker's certificate must be good for WORKER_TLS_CA"
	}
	return ""
}

// rejection is what to do about a worker that hangs up when it has seen who asks:
// a call that writes meanwhile finds its connection broken, and not why.
func rejection(ctx context.Context, addr string, secure *tls.Config) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workerTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(workerTimeout))
	asking := secure.Clone()
	asking.NextProtos = []string{"h2"}
	if asking.ServerName == "" {
		asking.ServerName, _, _ = net.SplitHostPort(addr)
	}
	conn := tls.Client(raw, asking)
	if err = conn.HandshakeContext(ctx); err == nil {
		_, err = conn.Read(make([]byte, 1)) // gRPC's greeting, or the alert
	}
	if err == nil {
		return ""
	}
	return tlsProblem(err.Error())
}

func speaksTLS(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workerTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = raw.Close() }()
	err = tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).HandshakeContext(ctx) //nolint:gosec // nothing is said or believed
	return err == nil || strings.Contains(err.Error(), "remote error: tls:")
}

// workerCause tells it from a failed call to a port that is open.
func workerCause(err error) Cause {
	switch text := err.Error(); {
	case status.Code(err) == codes.Unimplemented:
		return WorkerWrongService
	case strings.Contains(text, "server preface"), strings.Contains(text, "http2:"), strings.Contains(text, "malformed"), strings.Contains(text, "unexpected HTTP status"),
		strings.Contains(text, "EOF"), strings.Contains(text, "connection reset"):
		return WorkerNotGRPC
	case status.Code(err) == codes.DeadlineExceeded, strings.Contains(text, "context deadline exceeded"):
		return WorkerHung
	}
	return WorkerError
}
