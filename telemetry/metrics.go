package telemetry

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// Metrics counts through the OpenTelemetry API, shows what it counted to
// Prometheus, and where the environment names a collector, sends it there.
type Metrics struct {
	provider *sdk.MeterProvider
	handler  http.Handler
	meter    metric.Meter
	totals   *totals

	opened     metric.Int64Counter
	resumed    metric.Int64Counter
	ended      metric.Int64Counter
	utterances metric.Int64Counter
	characters metric.Int64Counter
	frames     metric.Int64Counter
	firstAudio metric.Float64Histogram
	errors     metric.Int64Counter
	underruns  metric.Int64Counter
	bargeIn    metric.Float64Histogram
	unsaved    metric.Int64Counter
	ignored    metric.Int64Counter
	picks      metric.Int64Counter
	faults     metric.Int64Counter
	failovers  metric.Int64Counter
}

func metricExporter() (sdk.Exporter, error) {
	if overGRPC("METRICS") {
		return otlpmetricgrpc.New(context.Background())
	}
	return otlpmetrichttp.New(context.Background())
}

// NewMetrics returns metrics, which it also sends by OTLP where asked to;
// Shutdown ends them.
func NewMetrics(service string, send bool) (*Metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	totals := &totals{start: time.Now()}
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo(),
		otelprometheus.WithProducer(totals))
	if err != nil {
		return nil, err
	}
	readers := []sdk.Option{sdk.WithReader(exporter)}
	if send {
		collector, err := metricExporter()
		if err != nil {
			return nil, err
		}
		about, err := about(service)
		if err != nil {
			return nil, err
		}
		readers = append(readers, sdk.WithResource(about), sdk.WithReader(sdk.NewPeriodicReader(collector, sdk.WithProducer(totals))))
	}
	m := &Metrics{
		provider: sdk.NewMeterProvider(readers...),
		handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		totals:   totals,
	}
	m.meter = m.provider.Meter(scopeName)
	counter := func(name, unit, what string) (c metric.Int64Counter) {
		if err == nil {
			c, err = m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
		}
		return c
	}
	// plain is a counter without attributes: it shows 0 before anything happens.
	plain := func(name, unit, what string) metric.Int64Counter {
		c := counter(name, unit, what)
		if err == nil {
			c.Add(context.Background(), 0)
		}
		return c
	}
	m.opened = plain("voxedge.session.opened", "{session}", "Sessions opened.")
	m.resumed = plain("voxedge.session.resumed", "{session}", "Sessions resumed after their connection was lost.")
	m.ended = counter("voxedge.session.ended", "{session}", "Sessions ended, by the reason given to the client.")
	m.utterances = counter("voxedge.utterance.ended", "{utterance}", "Utterances ended, by reason.")
	m.characters = plain("voxedge.utterance.characters", "{character}", "Characters of the utterances that ended.")
	m.frames = plain("voxedge.frame.written", "{frame}", "Frames written to clients.")
	m.underruns = plain("voxedge.utterance.underruns", "{underrun}", "Times that a client had played all it was sent in the middle of an utterance: audible gaps.")
	m.unsaved = plain("voxedge.journal.failures", "{failure}", "Times that records of sessions could not be saved; it is tried again.")
	m.ignored = plain("voxedge.trace.receipts.ignored", "{frame}", "Frames of clients' receipts that end no trace: not sampled, said twice, or too late.")
	m.picks = counter("voxedge.worker.picks", "{session}", "Sessions started at workers, by worker.")
	m.faults = counter("voxedge.worker.faults", "{fault}", "Failures of workers while they served a session, by worker and kind.")
	m.failovers = plain("voxedge.utterance.failovers", "{utterance}", "Times that an utterance went on at another worker or attempt.")
	m.errors = counter("voxedge.error.sent", "{error}", "Errors sent to clients, refusals included, by code.")
	if err != nil {
		return nil, err
	}
	m.firstAudio, err = m.meter.Float64Histogram("voxedge.utterance.first_audio", metric.WithUnit("s"),
		metric.WithDescription("Time from an utterance's text, or its turn if that was later, to its first frame written."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10))
	if err != nil {
		return nil, err
	}
	m.bargeIn, err = m.meter.Float64Histogram("voxedge.utterance.barge_in", metric.WithUnit("s"),
		metric.WithDescription("Time from a PAUSE or STOP being read to silence: no frame is written after."),
		metric.WithExplicitBucketBoundaries(0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.1))
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

// Count shows what read returns as a counter of the name and unit.
func (m *Metrics) Count(name, unit, what string, read func() int64) error {
	_, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(what),
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

// UtteranceEnded counts the utterance by reason, and its characters.
func (m *Metrics) UtteranceEnded(reason string, characters int) {
	ctx := context.Background()
	m.utterances.Add(ctx, 1, by("reason", reason))
	m.characters.Add(ctx, int64(characters))
}

// FirstAudio adds to the distribution.
func (m *Metrics) FirstAudio(d time.Duration) {
	m.firstAudio.Record(context.Background(), d.Seconds())
}

// Frames counts the frames, and adds to the distributions of all.
func (m *Metrics) Frames(waits, lateness *Distribution, underruns int) {
	m.frames.Add(context.Background(), int64(waits.n)) //nolint:gosec // a count
	m.totals.queued.add(waits)
	m.totals.lateness.add(lateness)
	m.underruns.Add(context.Background(), int64(underruns))
}

// BargeIn adds to the distribution.
func (m *Metrics) BargeIn(command string, took time.Duration) {
	m.bargeIn.Record(context.Background(), took.Seconds(), by("command", command))
}

// JournalFailed counts it.
func (m *Metrics) JournalFailed() { m.unsaved.Add(context.Background(), 1) }

// ReceiptIgnored counts it.
func (m *Metrics) ReceiptIgnored() { m.ignored.Add(context.Background(), 1) }

// WorkerPicked counts it by worker.
func (m *Metrics) WorkerPicked(worker string) {
	m.picks.Add(context.Background(), 1, by("worker", worker))
}

// WorkerFailed counts it by worker and kind.
func (m *Metrics) WorkerFailed(worker, kind string) {
	m.faults.Add(context.Background(), 1, metric.WithAttributes(attribute.String("worker", worker), attribute.String("kind", kind)))
}

// FailedOver counts it.
func (m *Metrics) FailedOver() { m.failovers.Add(context.Background(), 1) }

// Problem counts it by code.
func (m *Metrics) Problem(code string) { m.errors.Add(context.Background(), 1, by("code", code)) }
