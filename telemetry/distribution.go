package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// frameBounds are the upper bounds of the buckets that frames are counted in.
var frameBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// Distribution counts durations of frames. One goroutine at a time uses it: a
// session gathers its own, and hands it on now and then, so that no frame touches
// what sessions share.
type Distribution struct {
	counts [len(frameBounds) + 1]uint32
	n      uint64
	sum    time.Duration
	Max    time.Duration
}

// Observe counts d; what is negative counts as nothing.
func (d *Distribution) Observe(v time.Duration) {
	v = max(v, 0)
	i := 0
	for i < len(frameBounds) && v > frameBounds[i] {
		i++
	}
	d.counts[i]++
	d.n++
	d.sum += v
	d.Max = max(d.Max, v)
}

// total is the sum of all distributions of a kind.
type total struct {
	counts [len(frameBounds) + 1]atomic.Uint64
	nanos  atomic.Int64
}

func (t *total) add(d *Distribution) {
	for i, n := range d.counts {
		if n > 0 {
			t.counts[i].Add(uint64(n))
		}
	}
	t.nanos.Add(int64(d.sum))
}

// totals shows them to OpenTelemetry as histograms.
type totals struct {
	start    time.Time
	queued   total
	lateness total
}

var _ sdk.Producer = (*totals)(nil)

// Produce implements OpenTelemetry's interface for metrics gathered elsewhere.
func (t *totals) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	return []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: scopeName},
		Metrics: []metricdata.Metrics{
			t.histogram(&t.queued, "voxedge.frame.queue_wait", "Time from a frame's arrival from the worker to its writing to the client."),
			t.histogram(&t.lateness, "voxedge.frame.lateness", "Time that a paced frame was written after it was due."),
		},
	}}, nil
}

func (t *totals) histogram(of *total, name, what string) metricdata.Metrics {
	point := metricdata.HistogramDataPoint[float64]{StartTime: t.start, Time: time.Now(), Sum: time.Duration(of.nanos.Load()).Seconds()}
	for _, b := range frameBounds {
		point.Bounds = append(point.Bounds, b.Seconds())
	}
	for i := range of.counts {
		n := of.counts[i].Load()
		point.BucketCounts = append(point.BucketCounts, n)
		point.Count += n
	}
	return metricdata.Metrics{Name: name, Description: what, Unit: "s", Data: metricdata.Histogram[float64]{
		DataPoints: []metricdata.HistogramDataPoint[float64]{point}, Temporality: metricdata.CumulativeTemporality,
	}}
}
