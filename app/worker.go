package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/telemetry"
	"github.com/voxedge/voxedge/worker"
)

// runWorker is the reference worker.
func runWorker(ctx context.Context, c command) error {
	if err := c.noArguments("worker"); err != nil {
		return err
	}
	cfg, log, err := c.configure(c.stdout)
	if err != nil {
		return err
	}
	defer levelBySignal(cfg, log)()
	w, err := newReferenceWorker(cfg, log)
	if err != nil {
		return told(log, "the worker cannot start", err)
	}
	return told(log, "the worker failed", w.run(ctx))
}

// referenceWorker is the worker and its place in the registry.
type referenceWorker struct {
	cfg    Config
	log    *slog.Logger
	server *worker.Server
	grpc   *grpc.Server
	ln     net.Listener
	redis  *redis.Client // nil when REDIS_URL is off
	record telemetry.Edge
	name   string
	addr   string // that edges reach it at
}

func newReferenceWorker(cfg Config, log *slog.Logger) (*referenceWorker, error) {
	engine, err := newEngine(cfg.WorkerEngine, log)
	if err != nil {
		return nil, err
	}
	ln, err := listen(cfg.WorkerHost, cfg.WorkerPort, "WORKER_PORT")
	if err != nil {
		return nil, err
	}
	secure, err := listenTLS(cfg, log)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	record, err := newRecord("voxedge-worker", cfg, log)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	w := &referenceWorker{
		cfg: cfg, log: log, ln: ln, record: record,
		grpc:   grpc.NewServer(append(traced(record.Tracer), secured(secure)...)...),
		server: worker.NewServer(engine, cfg.WorkerMaxSessions, record.Tracer, log),
		name:   cfg.WorkerName, addr: cfg.WorkerAdvertise,
	}
	w.server.Register(w.grpc)
	port := strconv.Itoa(portOf(ln))
	if w.name == "" {
		host, _ := os.Hostname()
		w.name = host + "-" + port
	}
	if cfg.RedisURL != RedisOff {
		if w.redis, err = clients.NewRedis(cfg.RedisURL, log); err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		if w.addr == "" {
			w.addr = net.JoinHostPort(addressTowards(w.redis.Options().Addr), port)
		}
	}
	return w, nil
}

// traced has a server make spans of its calls, where there is a tracer.
func traced(t *telemetry.Tracer) []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.Provider()),
		otelgrpc.WithMeterProvider(metrics.NewMeterProvider()), otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithFilter(worker.Traced)))}
}

// secured has a server speak TLS, where there is a certificate.
func secured(conf *tls.Config) []grpc.ServerOption {
	if conf == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(conf))}
}

// newEngine returns the named engine. Without espeak-ng, auto falls back to
// the tone, and says so.
func newEngine(name string, log *slog.Logger) (worker.Engine, error) {
	switch name {
	case "tone":
		return worker.Tone{}, nil
	case "stamp":
		return worker.Stamp{}, nil
	}
	engine, err := worker.NewEspeak()
	switch {
	case err == nil:
		return engine, nil
	case name == "espeak":
		return nil, &fault{exitFailed, err.Error(), "Install it (apt-get install espeak-ng, brew install espeak-ng), or set WORKER_ENGINE=tone"}
	}
	log.Warn("THERE IS NO VOICE: every text is spoken as a 440 Hz tone", "cause", err.Error(),
		"resolution", "install espeak-ng (apt-get install espeak-ng, brew install espeak-ng) and start again")
	return worker.Tone{}, nil
}

// addressTowards returns the address of this machine as seen from host:port;
// edges that use the same Redis reach the worker there. Nothing is sent.
func addressTowards(addr string) string {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return "127.0.0.1"
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).IP.String()
}

// run serves until ctx is done, takes the worker out of the registry, lets
// what is being spoken end, and returns when everything has.
func (w *referenceWorker) run(ctx context.Context) error {
	announcing, leave := context.WithCancel(context.Background())
	var running sync.WaitGroup
	if w.redis != nil {
		announcer := clients.NewAnnouncer(w.redis, w.log)
		running.Go(func() { announcer.Run(announcing, w.announcement) })
	}
	failed := make(chan error, 1)
	running.Go(func() { failed <- w.grpc.Serve(w.ln) })
	w.log.Info("worker listening", "port", portOf(w.ln), "worker", w.name)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	leave()
	w.server.Drain()
	hard := time.AfterFunc(w.cfg.ShutdownTimeout, w.grpc.Stop)
	w.grpc.GracefulStop()
	hard.Stop()
	running.Wait()
	w.server.Wait()
	if w.redis != nil {
		err = errors.Join(err, w.redis.Close())
	}
	shutdownRecord(w.record, w.log)
	w.log.Info("worker stopped")
	return err
}

func (w *referenceWorker) announcement() clients.Announcement {
	reply, _ := w.server.GetCapabilities(context.Background(), &proto.GetCapabilitiesRequest{}) // it cannot fail
	return clients.Announcement{
		Name: w.name, Addr: "grpc://" + w.addr,
		Capabilities: reply.GetCapabilities(), ResidentModels: reply.GetResidentModels(), Metrics: reply.GetMetrics(),
	}
}
