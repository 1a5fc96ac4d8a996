package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/voxedge/voxedge/telemetry"
)

// flushTimeout is how long what was recorded may take to be sent at the end.
const flushTimeout = 5 * time.Second

// newRecord returns the metrics of an edge or a worker, and its tracer where the
// environment names a place for traces.
func newRecord(service string, cfg Config, log *slog.Logger) (r telemetry.Edge, err error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry", "cause", err.Error(), "resolution", "see that the OTEL_* variables are right and that the OTLP endpoint is well")
	}))
	if cfg.tracing {
		if r.Tracer, err = telemetry.NewTracer(service, cfg.TraceBufferBytes, log); err != nil {
			return r, err
		}
	}
	if r.Metrics, err = telemetry.NewMetrics(service, cfg.metrics); err != nil {
		return r, err
	}
	if r.Tracer == nil {
		return r, nil
	}
	return r, errors.Join(
		r.Count("voxedge.trace.spans.exported", "{span}", "Spans that the OTLP endpoint has taken.", r.Tracer.Exported),
		r.Count("voxedge.trace.spans.lost", "{span}", "Spans that the OTLP endpoint has refused, or that were left at the end.", r.Tracer.Lost),
		r.Count("voxedge.trace.utterances.given_up", "{utterance}", "Utterances whose frames were not traced because TRACE_BUFFER_BYTES were taken.", r.Tracer.GivenUp),
		r.Gauge("voxedge.trace.buffer.used", "By", "Memory of frames that wait to be sent as spans.", r.Tracer.Buffered),
		r.Gauge("voxedge.trace.buffer.limit", "By", "TRACE_BUFFER_BYTES.", func() int64 { return int64(cfg.TraceBufferBytes) }),
	)
}

// shutdownRecord sends what was recorded last, traces and metrics at once. That it
// could not be sent is no failure of whoever leaves.
func shutdownRecord(r telemetry.Edge, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	var sending sync.WaitGroup
	for what, end := range map[string]func(context.Context) error{"traces": r.Tracer.Shutdown, "metrics": r.Shutdown} {
		sending.Go(func() {
			if err := end(ctx); err != nil {
				log.Warn("what was recorded last may not have been sent", "what", what, "cause", err.Error(),
					"resolution", "see that the OTLP endpoint is well, if it should still be")
			}
		})
	}
	sending.Wait()
}

// gauges shows what the edge's parts hold.
func (e *edge) gauges() error {
	up := func(ok bool) int64 {
		if ok {
			return 1
		}
		return 0
	}
	return errors.Join(
		e.record.Gauge("voxedge.session.active", "{session}", "Places taken by sessions and by connections on their way to one.",
			func() int64 { taken, _ := e.hub.Sessions(); return int64(taken) }),
		e.record.Gauge("voxedge.session.limit", "{session}", "Places there are: MAX_CONNECTIONS.",
			func() int64 { _, limit := e.hub.Sessions(); return int64(limit) }),
		e.record.Gauge("voxedge.draining", "", "1 while the edge takes no new sessions because it leaves.",
			func() int64 { return up(e.hub.Draining()) }),
		e.record.Gauge("voxedge.frame.together", "{frame}", "Frames of a paced session that leave at once: as PACING_INTERVAL says, and more while the edge's processors cannot keep up.",
			func() int64 { return int64(e.hub.FramesTogether()) }),
		e.record.Gauge("voxedge.worker.healthy", "{worker}", "Workers that are healthy.",
			func() int64 { healthy, _ := e.pool.Workers(); return int64(healthy) }),
		e.record.Gauge("voxedge.worker.known", "{worker}", "Workers that are known.",
			func() int64 { _, known := e.pool.Workers(); return int64(known) }),
		e.record.Gauge("voxedge.redis.up", "", "1 while Redis answers.",
			func() int64 { return up(e.health.OK("redis")) }),
	)
}
