package clients

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
)

const (
	healthInterval = 2 * time.Second
	healthTimeout  = time.Second
	// streamWindow is what one Synthesize stream may hold between the worker and
	// the session's queue, in bytes. It is fixed: gRPC's automatic one grows until
	// a fast worker's whole utterance sits in the edge.
	streamWindow = 64 << 10
	// connWindow bounds what one connection may hold before gRPC has read it;
	// streams do not hold it, for gRPC gives it back on arrival.
	connWindow = 1 << 20
	// readBuffer is what one read of a connection may bring, in bytes: sixty
	// frames, for a busy worker has those of many sessions waiting.
	readBuffer = 128 << 10
	// Workers are not trusted either: maxMessage bounds one message, in bytes (forty
	// seconds of audio, for some send an utterance whole), and maxMetadata what comes
	// with a call.
	maxMessage  = 4 << 20
	maxMetadata = 16 << 10
)

// Worker is one text-to-speech worker: its connection, shared by all sessions,
// and what is known of it.
type Worker struct {
	Name string
	Addr string

	conn    *grpc.ClientConn
	tts     proto.TTSServiceClient
	health  healthpb.HealthClient
	calls   calls
	log     *slog.Logger
	breaker breaker
	stop    context.CancelFunc
	done    sync.WaitGroup // the health check
	retired atomic.Bool

	announcedAt time.Time // last; the pool's
	closed      sync.Once

	sessions atomic.Int64 // of this edge, opened with StartSession; hold and release count them
	streams  atomic.Int64 // of this edge, speaking
	latency  atomic.Int64 // moving average of the time to the first frame, nanoseconds
	state    atomic.Pointer[workerState]
}

// workerState is what was last heard of a worker; it is replaced, not changed.
type workerState struct {
	err      error // why it is not healthy; errUnchecked at first
	caps     *proto.Capabilities
	resident []string
	models   []*proto.ModelInfo // nil where the worker does not list them
	metrics  map[string]float64
}

var errUnchecked = errors.New("not checked yet")

func newWorker(a Announcement, secure *tls.Config, tracing trace.TracerProvider, log *slog.Logger) (*Worker, error) {
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxMetadata),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithUserAgent("voxedge"),
		experimental.WithBufferPool(&buffers),
		grpc.WithReadBufferSize(readBuffer),
	}
	conn, err := grpc.NewClient("passthrough:///"+a.Addr, options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &Worker{
		Name: a.Name, Addr: a.Addr, conn: conn, stop: cancel,
		tts: proto.NewTTSServiceClient(conn), health: healthpb.NewHealthClient(conn),
		calls: newCalls(tracing, a.Addr), log: log.With("worker", a.Name, "addr", a.Addr),
	}
	w.state.Store(&workerState{err: errUnchecked})
	w.done.Go(func() { w.keepChecking(ctx) })
	return w, nil
}

// hold and release count a session that uses the worker.
func (w *Worker) hold() { w.sessions.Add(1) }

func (w *Worker) release() {
	if w.sessions.Add(-1) == 0 && w.retired.Load() {
		w.close()
	}
}

var errRetired = errors.New("it has left")

// retire takes the worker out of use. Its connection is closed when the last
// session has left it; no session speaks through it again.
func (w *Worker) retire() {
	w.stop()
	w.done.Wait()
	w.update(func(s *workerState) { s.err = errRetired })
	w.retired.Store(true)
	if w.sessions.Load() == 0 {
		w.close()
	}
}

// close ends the health check and the connection; streams on it fail.
func (w *Worker) close() {
	w.stop()
	w.done.Wait()
	w.closed.Do(func() { _ = w.conn.Close() })
}

// update replaces the state with a changed copy and returns the one before.
func (w *Worker) update(change func(*workerState)) (before *workerState) {
	for {
		old := w.state.Load()
		next := *old
		change(&next)
		if w.state.CompareAndSwap(old, &next) {
			return old
		}
	}
}

// announce takes over what the worker said of itself in the registry.
func (w *Worker) announce(a Announcement) {
	w.update(func(s *workerState) {
		if a.Capabilities != nil {
			s.caps, s.resident, s.metrics = a.Capabilities, a.ResidentModels, a.Metrics
		}
	})
}

func (w *Worker) keepChecking(ctx context.Context) {
	for {
		w.check(ctx)
		jitter := rand.N(healthInterval / 4)
		select {
		case <-time.After(healthInterval - jitter):
		case <-ctx.Done():
			return
		}
	}
}

// check asks the worker how it is and what it can.
func (w *Worker) check(ctx context.Context) {
	w.conn.ResetConnectBackoff()
	err := w.probe(ctx)
	var caps *proto.GetCapabilitiesResponse
	var models *proto.ListModelsResponse
	if err == nil {
		caps, err = w.capabilities(ctx)
	}
	if err == nil {
		models, _ = w.listModels(ctx) // not every worker lists them
	}
	if ctx.Err() != nil {
		return
	}
	before := w.update(func(s *workerState) {
		if s.err = err; err == nil {
			s.caps, s.resident, s.metrics = caps.GetCapabilities(), caps.GetResidentModels(), caps.GetMetrics()
			s.models = models.GetModels()
		}
	})
	w.logChange(before.err, err)
}

func (w *Worker) logChange(before, now error) {
	switch {
	case now == nil && before != nil:
		w.log.Info("worker is healthy")
	case now != nil && (before == nil || errors.Is(before, errUnchecked)):
		w.log.Warn("worker is not healthy", "cause", now.Error(),
			"resolution", "see that the worker runs, serves gRPC at this address, and that no firewall is between")
	}
}

// probe asks grpc.health.v1. A worker that does not have it is judged by
// GetCapabilities alone.
func (w *Worker) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	reply, err := w.health.Check(ctx, &healthpb.HealthCheckRequest{})
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil
	case err != nil:
		return rpcError("health check", err)
	case reply.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("it reports %s", reply.GetStatus())
	}
	return nil
}

func (w *Worker) capabilities(ctx context.Context) (*proto.GetCapabilitiesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	reply, err := w.tts.GetCapabilities(ctx, &proto.GetCapabilitiesRequest{})
	if status.Code(err) == codes.Unimplemented {
		return nil, errors.New("it serves gRPC but not tts.TTSService")
	}
	if err != nil {
		return nil, rpcError("GetCapabilities", err)
	}
	return reply, nil
}

func (w *Worker) listModels(ctx context.Context) (*proto.ListModelsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	return w.tts.ListModels(ctx, &proto.ListModelsRequest{})
}

// rpcError says what failed in words, without gRPC's wrapping.
func rpcError(what string, err error) error {
	s := status.Convert(err)
	return fmt.Errorf("%s: %s: %.500s", what, s.Code(), s.Message())
}

// firstFrame takes note of a time to first frame.
func (w *Worker) firstFrame(d time.Duration) {
	old := w.latency.Load()
	if old == 0 {
		w.latency.Store(int64(d))
		return
	}
	w.latency.Store(old + (int64(d)-old)/8)
}

// load is what counts for least_loaded: what this edge has it speaking and
// what it says is waiting.
func (w *Worker) load() float64 {
	return float64(w.streams.Load()) + max(0, w.state.Load().metrics["queue_depth"])
}
