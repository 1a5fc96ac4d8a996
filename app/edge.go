package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/doctor"
	"github.com/voxedge/voxedge/handlers"
	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/telemetry"
)

// edge is the running service: the parts and the order in which they start
// and end.
type edge struct {
	cfg      Config
	log      *slog.Logger
	redis    *redis.Client // of the workers; nil when REDIS_URL is off
	sessions *redis.Client // of sessions, tickets and limits; most often the same
	registry *clients.Registry
	journal  *clients.Journal // nil when REDIS_URL is off
	pool     *clients.Pool
	hub      *session.Hub
	health   *handlers.Health
	record   telemetry.Edge
	public   net.Listener
	private  net.Listener
	tls      *tls.Config // nil: the public port is plain
	limiter  *clients.Limiter
	auth     *middleware.Auth
	issuer   *issuer // nil where there is no JWKS
}

// newEdge opens the ports and wires the parts. run must follow.
func newEdge(cfg Config, log *slog.Logger) (*edge, error) {
	e := &edge{cfg: cfg, log: log}
	var err error
	if e.private, err = listen(cfg.HealthHost, cfg.HealthPort, "HEALTH_PORT"); err != nil {
		return nil, err
	}
	if e.public, err = listen(cfg.Host, cfg.Port, "PORT"); err != nil {
		return nil, errors.Join(err, e.private.Close())
	}
	if e.record, err = newRecord("voxedge", cfg, log); err != nil {
		return nil, errors.Join(err, e.private.Close(), e.public.Close())
	}
	var toWorkers *tls.Config
	if e.tls, err = serverTLS(cfg, log); err == nil {
		toWorkers, err = workerTLS(cfg, log)
	}
	if err != nil {
		return nil, errors.Join(err, e.private.Close(), e.public.Close())
	}
	if cfg.RedisURL != RedisOff {
		if e.redis, err = clients.NewRedis(cfg.RedisURL, log); err != nil {
			return nil, errors.Join(err, e.private.Close(), e.public.Close())
		}
	}
	e.sessions = e.redis
	if cfg.SessionRedisURL != "" {
		if e.sessions, err = clients.NewRedis(cfg.SessionRedisURL, log); err != nil {
			return nil, errors.Join(err, e.private.Close(), e.public.Close())
		}
	}
	e.limiter = clients.NewLimiter(e.sessions, log)
	if e.auth, e.issuer, err = newAuth(cfg, e.newTickets(), log); err != nil {
		return nil, errors.Join(err, e.private.Close(), e.public.Close())
	}
	var source clients.Source
	if cfg.WorkerAddr == "" {
		e.registry = clients.NewRegistry(e.redis, log)
		source = e.registry
	} else {
		static, err := clients.StaticWorkers(cfg.WorkerAddr)
		if err != nil {
			return nil, errors.Join(err, e.private.Close(), e.public.Close())
		}
		source = clients.Static(static)
	}
	e.pool = clients.NewPool(clients.PoolConfig{
		Strategy:          cfg.RoutingStrategy,
		StartTimeout:      cfg.WorkerStartTimeout,
		FirstFrameTimeout: cfg.WorkerFirstFrameTimeout,
		StallTimeout:      cfg.WorkerStallTimeout,
		RefreshInterval:   cfg.WorkerRefreshInterval,
		MaxWorkers:        cfg.MaxWorkers,
		Recorder:          e.record,
		Tracing:           e.record.Tracer.Provider(),
		TLS:               toWorkers,
	}, source, log)
	var journal session.Journal
	if e.sessions != nil {
		e.journal = clients.NewJournal(e.sessions, cfg.ResumeWindow)
		journal = e.journal
	}
	e.hub = session.NewHub(session.Config{
		MaxSessions:       cfg.MaxConnections,
		MaxMessages:       cfg.MaxMessages,
		MaxUtterances:     cfg.MaxQueuedUtterances,
		MaxUtteranceRunes: cfg.MaxUtteranceChars,
		QueueFrames:       cfg.FrameQueueSize,
		PacingLead:        cfg.PacingLead,
		PacingInterval:    cfg.PacingInterval,
		SlowClientTimeout: cfg.SlowClientTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxDuration:       cfg.MaxSessionDuration,
		PingInterval:      cfg.PingInterval,
		ResumeWindow:      cfg.ResumeWindow,
	}, e.pool, journal, newSenders(cfg.IOUring, log), log, e.record)
	e.health = handlers.NewHealth(e.checks(), e.ready, log)
	return e, e.gauges()
}

// newSenders makes what writes for many sessions at once, where it is wanted and
// the system lets us; elsewhere each session writes for itself.
func newSenders(wanted bool, log *slog.Logger) func() session.Sender {
	if !wanted {
		return nil
	}
	var told sync.Once
	return func() session.Sender {
		s, err := handlers.NewSender()
		if err != nil {
			told.Do(func() {
				log.Info("each write of frames is a system call", "cause", err.Error(),
					"resolution", "to save CPU, let the container call io_uring_setup and io_uring_enter (its seccomp profile says what it may); IO_URING=false ends this message")
			})
			return nil
		}
		return s
	}
}

// How much heap there is, at the most, in bytes: of a session that speaks, with what
// gRPC and the garbage collector have of it.
const (
	heapOfRuntime = 16 << 20
	heapOfSession = 400 << 10
)

// useHugePages takes some milliseconds, for which the first clients need not wait.
func (e *edge) useHugePages() {
	if err := adviseHeap(heapOfRuntime + uint64(e.cfg.MaxConnections)*heapOfSession); err != nil { //nolint:gosec // not negative
		e.log.Debug("the heap has pages of the usual size", "cause", err.Error(),
			"resolution", "to save CPU with hundreds of sessions, have /sys/kernel/mm/transparent_hugepage/enabled say madvise")
	}
}

func (e *edge) checks() []handlers.Check {
	checks := []handlers.Check{{
		Name:       "worker",
		Resolution: "Start a worker (voxedge worker), or correct WORKER_ADDR or the worker's announcement in Redis",
		Probe:      e.pool.Ready,
	}}
	return append(checks, handlers.Check{
		Name:       "redis",
		Resolution: "See that Redis runs and that REDIS_URL names it; known workers and open sessions go on without it",
		Probe: func(ctx context.Context) error {
			var err error
			for _, client := range e.redisClients() {
				err = errors.Join(err, client.Ping(ctx).Err())
			}
			return err // none where nobody needs it
		},
	})
}

// redisClients are those there are, each once.
func (e *edge) redisClients() (all []*redis.Client) {
	if e.redis != nil {
		all = append(all, e.redis)
	}
	if e.sessions != nil && e.sessions != e.redis {
		all = append(all, e.sessions)
	}
	return all
}

// ready says whether one more session can be taken.
func (e *edge) ready() error {
	if e.hub.Draining() {
		return errors.New("draining")
	}
	if taken, limit := e.hub.Sessions(); taken >= limit {
		return errors.New("at capacity")
	}
	return e.pool.Ready(context.Background())
}

// run serves until ctx is done, drains, and returns when everything it started
// has ended.
func (e *edge) run(ctx context.Context) error {
	background, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.pool.Run(background) })
	running.Go(func() { e.health.Run(background) })
	if e.registry != nil {
		running.Go(func() { e.registry.Run(background) })
	}
	if e.journal != nil {
		running.Go(func() { e.journal.Run(background) })
	}
	if e.issuer != nil {
		running.Go(func() { e.issuer.run(background) })
	}

	origins, _ := middleware.ParseOrigins(e.cfg.Origins) // they were read when the environment was checked
	proxies, _ := middleware.ParseProxies(e.cfg.Proxies)
	running.Go(func() { e.limiter.Run(background) })

	life, before := doctor.Begin(map[string]string{"RUN_DIR": e.cfg.RunDir}, portOf(e.public))
	defer life.End()
	if before != nil {
		e.log.Warn("the edge before this one was not stopped", "cause", before.String(), "resolution", before.Cause.Local+"; "+before.Cause.Link())
	}

	failed := make(chan error, 2)
	private := e.health.App(adaptor.HTTPHandler(e.record.Handler()), portOf(e.public))
	public := handlers.Stream(e.hub, handlers.StreamConfig{
		MaxMessageBytes:  e.cfg.MaxMessageBytes,
		MessageRate:      e.cfg.MessageRate,
		HandshakeTimeout: e.cfg.HandshakeTimeout,
		HealthPort:       portOf(e.private),
		Auth:             e.auth,
		Origins:          origins,
		Proxies:          proxies,
		Limiter:          e.limiter,
		PerKey:           middleware.Limits{Connections: e.cfg.KeyConnections, Connects: e.cfg.KeyConnects, Characters: e.cfg.KeyCharacters, Audio: e.cfg.KeyAudio},
		PerAddress:       middleware.Limits{Connections: e.cfg.AddressConnections, Connects: e.cfg.AddressConnects, Characters: e.cfg.AddressCharacters, Audio: e.cfg.AddressAudio},
	}, e.log)
	privately := handlers.Listen(e.private, handlers.ListenConfig{MaxHandshakes: healthConnections}, e.log)
	publicly := e.secured(handlers.Listen(e.public, handlers.ListenConfig{MaxHandshakes: e.cfg.MaxHandshakes, TLS: e.tls != nil}, e.log))
	var serving sync.WaitGroup
	serving.Go(func() { failed <- private.Listener(privately) })
	serving.Go(func() { failed <- public.Listener(publicly) })
	running.Go(e.useHugePages)
	e.log.Info("listening", "port", portOf(e.public), "health_port", portOf(e.private), "max_connections", e.cfg.MaxConnections)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	e.drain()
	err = errors.Join(err, shutdown(public, publicly))
	e.hub.Close()
	stop()
	running.Wait()
	e.pool.Close()
	for _, client := range e.redisClients() {
		err = errors.Join(err, client.Close())
	}
	err = errors.Join(err, shutdown(private, privately))
	shutdownRecord(e.record, e.log)
	serving.Wait()
	e.log.Info("stopped")
	return err
}

// healthConnections is how many probes there may be at once.
const healthConnections = 128

// secured puts TLS over the listener where there is a certificate.
func (e *edge) secured(ln net.Listener) net.Listener {
	if e.tls == nil {
		return ln
	}
	return tls.NewListener(ln, e.tls)
}

// drain lets the sessions end. New ones are refused meanwhile, not ignored, so
// that a proxy sends them elsewhere.
func (e *edge) drain() {
	began := time.Now()
	e.hub.BeginDrain()
	taken, _ := e.hub.Sessions()
	e.log.Info("draining", "sessions", taken, "at_most", e.cfg.ShutdownTimeout.String())
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.ShutdownTimeout)
	defer cancel()
	cut := e.hub.Drain(ctx)
	e.log.Info("drained", "duration_seconds", time.Since(began).Seconds(), "sessions_cut_off", cut)
}

// shutdown ends a Fiber app whose connections are all done or idle, but for
// those that have not come to an end of their request. An app that has not yet
// begun to accept does not hear of its shutdown; it finds its listener closed.
func shutdown(app *fiber.App, ln net.Listener) error {
	err := app.ShutdownWithTimeout(500 * time.Millisecond)
	_ = ln.Close() // most often closed already
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // of those it did not wait any longer
	}
	return err
}
