package telemetry

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// Metrics is a Recorder that counts through the OpenTelemetry API, and shows
// what it counted to Prometheus.
type Metrics struct {
	provider *sdk.MeterProvider
	handler  http.Handler
	meter    metric.Meter

	opened     metric.Int64Counter
	resumed    metric.Int64Counter
	ended      metric.Int64Counter
	utterances metric.Int64Counter
	characters metric.Int64Counter
	frames     metric.Int64Counter
	firstAudio metric.Float64Histogram
	errors     metric.Int64Counter
}

var _ Recorder = (*Metrics)(nil)

// NewMetrics returns metrics; Shutdown ends them.
func NewMetrics() (*Metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	m := &Metrics{
		provider: sdk.NewMeterProvider(sdk.WithReader(exporter)),
		handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	}
	m.meter = m.provider.Meter("github.com/voxedge/voxedge")
	counter := func(name, unit, what string) (c metric.Int64Counter) {
		if err == nil {
			c, err = m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		}
		return c
	}
	m.opened = counter("voxedge.sessions.opened", "{session}", "Sessions opened.")
	m.resumed = counter("voxedge.sessions.resumed", "{session}", "Sessions resumed after their connection was lost.")
	m.ended = counter("voxedge.sessions.ended", "{session}", "Sessions ended, by the reason given to the client.")
	m.utterances = counter("voxedge.utterances", "{utterance}", "Utterances ended, by reason.")
	m.characters = counter("voxedge.characters", "{character}", "Characters of the utterances that ended.")
	m.frames = counter("voxedge.frames", "{frame}", "Frames written to clients, of the utterances that ended.")
	m.errors = counter("voxedge.errors", "{error}", "Errors sent to clients, refusals included, by code.")
	if err != nil {
		return nil, err
	}
	m.firstAudio, err = m.meter.Float64Histogram("voxedge.first_audio", metric.WithUnit("s"),
		metric.WithDescription("Time from an utterance's text to its first frame written."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10))
	return m, err
}

// Gauge shows what read returns as a metric of the name and unit.
func (m *Metrics) Gauge(name, unit, what string, read func() int64) error {
	_, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(read())
			return nil
		}))
	return err
}

// Handler serves the metrics in Prometheus' format.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Shutdown ends the metrics.
func (m *Metrics) Shutdown(ctx context.Context) error { return m.provider.Shutdown(ctx) }

func by(name, value string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String(name, value))
}

// SessionOpened counts it.
func (m *Metrics) SessionOpened() { m.opened.Add(context.Background(), 1) }

// SessionResumed counts it.
func (m *Metrics) SessionResumed() { m.resumed.Add(context.Background(), 1) }

// SessionEnded counts it by reason.
func (m *Metrics) SessionEnded(reason string) {
	m.ended.Add(context.Background(), 1, by("reason", reason))
}

// UtteranceEnded counts the utterance by reason, its characters and its frames.
func (m *Metrics) UtteranceEnded(reason string, characters int, frames uint64) {
	ctx := context.Background()
	m.utterances.Add(ctx, 1, by("reason", reason))
	m.characters.Add(ctx, int64(characters))
	m.frames.Add(ctx, int64(frames))
}

// FirstAudio adds to the distribution.
func (m *Metrics) FirstAudio(d time.Duration) {
	m.firstAudio.Record(context.Background(), d.Seconds())
}

// Problem counts it by code.
func (m *Metrics) Problem(code string) { m.errors.Add(context.Background(), 1, by("code", code)) }
