package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/voxedge/voxedge/session"
)

// Options say what to measure.
type Options struct {
	Sessions []int         // of the paced scenarios, each a run of its own
	Window   time.Duration // of one measurement
	Rounds   int           // of relay and edge in turn
	Idle     int           // connections that say nothing
	Interval time.Duration // the edge's PACING_INTERVAL
	Only     string        // scenarios whose names have this in them; empty: all
	Progress io.Writer     // a line a round
}

// The bounds of Options: one address has no ports for more connections, and in less no
// frame may come.
const (
	MostConnections = 20_000
	ShortestWindow  = 100 * time.Millisecond
)

// Result is one scenario at one number of sessions: the edge beside the relay.
type Result struct {
	Scenario     string    `json:"scenario"`
	Sessions     int       `json:"sessions"`
	MessageBytes int       `json:"message_bytes"`
	Edge         Measure   `json:"edge"`
	Relay        Measure   `json:"relay"`
	WorkerCPU    float64   `json:"worker_cpu_us_per_frame"`
	Ratio        float64   `json:"cpu_ratio"`                     // of Edge.CPU to Relay.CPU
	RoundRatios  []float64 `json:"cpu_ratio_of_rounds,omitempty"` // the same of each round
}

// Measure is what one process did, over all rounds.
type Measure struct {
	CPU      float64   `json:"cpu_us_per_frame"`
	Rate     float64   `json:"frames_per_second"`
	Pace     float64   `json:"pace,omitempty"` // Rate to what the sessions ask for; below 1 the machine is too small
	Busy     float64   `json:"cores_busy"`     // share of the machine's time, all that ran on it
	Memory   int       `json:"bytes_each"`     // resident, a session: more than before the first
	Lateness Quantiles `json:"lateness_ms,omitempty"`
	Latency  Quantiles `json:"latency_ms,omitempty"`
}

// Quantiles are of durations in milliseconds, at Percentiles.
type Quantiles []float64

// Percentiles are those that are kept.
var Percentiles = []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.9}

// At returns one of the Percentiles.
func (q Quantiles) At(percentile float64) float64 {
	i := slices.Index(Percentiles, percentile)
	if i < 0 || i >= len(q) {
		return math.NaN()
	}
	return q[i]
}

func quantiles(sorted []time.Duration) (q Quantiles) {
	if len(sorted) == 0 {
		return nil
	}
	for _, p := range Percentiles {
		q = append(q, float64(sorted[min(int(p/100*float64(len(sorted))), len(sorted)-1)].Microseconds())/1000)
	}
	return q
}

// scenario is a way to use the edge.
type scenario struct {
	name   string
	query  string
	binary bool
	paced  bool // messages come at the pace of speech, at the relay too
	traced bool
}

// Latency is from a frame's making to its arrival, where the worker makes one
// every 20 ms; elsewhere it makes them as fast as the edge takes them.
var (
	pacedScenarios = []scenario{
		{name: "paced, JSON", paced: true},
		{name: "paced, binary", paced: true, binary: true},
		{name: "paced, JSON, every frame traced", paced: true, traced: true},
	}
	unpacedScenarios = []scenario{
		{name: "unpaced, JSON", query: "pacing=none"},
		{name: "unpaced, binary", query: "pacing=none", binary: true},
	}
	latencyScenario = scenario{name: "a worker of real-time pace", query: "pacing=none&option.pace=realtime", binary: true, paced: true}
)

const (
	unpacedSessions = 50
	latencySessions = 100
	idleScenario    = "idle" // for Only
)

// Run measures all scenarios. The processes it starts end with it. With an error comes
// what was measured before.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &Report{Machine: thisMachine(), Window: o.Window.String(), Rounds: o.Rounds, At: time.Now().UTC().Truncate(time.Second)}
	sink, err := startSink()
	if err != nil {
		return r, err
	}
	defer sink.stop()
	measure := func(s scenario, sessions int) error {
		if !strings.Contains(s.name, o.Only) {
			return nil
		}
		result, err := o.compare(ctx, s, sessions, sink)
		if err != nil {
			return fmt.Errorf("%s, %d sessions: %w", s.name, sessions, err)
		}
		r.Results = append(r.Results, result)
		return nil
	}
	for _, s := range pacedScenarios {
		for _, n := range o.Sessions {
			if err := measure(s, n); err != nil {
				return r, err
			}
		}
	}
	for _, s := range unpacedScenarios {
		if err := measure(s, unpacedSessions); err != nil {
			return r, err
		}
	}
	if err := measure(latencyScenario, latencySessions); err != nil {
		return r, err
	}
	if strings.Contains(idleScenario, o.Only) {
		idle, err := o.idle(ctx, sink)
		if err != nil {
			return r, fmt.Errorf("idle connections: %w", err)
		}
		r.Idle = idle
	}
	return r, nil
}

// system is an edge with all that it needs.
type system struct {
	redis        *miniredis.Miniredis
	worker, edge *process
	url          string
}

func (o Options) startSystem(ctx context.Context, sink *sink, traced bool) (s *system, err error) {
	s = &system{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.redis, err = miniredis.Run(); err != nil {
		return s, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return s, err
	}
	env := []string{"REDIS_URL=redis://" + s.redis.Addr(), "LOG_LEVEL=error", "HOST=127.0.0.1", "HEALTH_HOST=127.0.0.1", "WORKER_HOST=127.0.0.1"}
	if traced {
		env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+sink.addr, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	}
	// The worker has one core at most, as the source of the relay has.
	if s.worker, err = start(ctx, append(env, "WORKER_ENGINE=stamp", "GOMAXPROCS=1", "WORKER_MAX_SESSIONS=100000", fmt.Sprint("WORKER_PORT=", ports[0])), "worker"); err != nil {
		return s, err
	}
	if err = s.worker.listens(ctx, ports[0]); err != nil {
		return s, err
	}
	if s.edge, err = start(ctx, append(env, "MAX_CONNECTIONS=100000", fmt.Sprint("PACING_INTERVAL=", o.Interval), fmt.Sprint("PORT=", ports[1]), fmt.Sprint("HEALTH_PORT=", ports[2])), "serve"); err != nil {
		return s, err
	}
	s.url = "ws://" + local(ports[1]) + "/v1/stream"
	return s, s.edge.ready(ctx, "http://"+local(ports[2])+"/readiness")
}

func (s *system) stop() {
	for _, p := range []*process{s.edge, s.worker} {
		if p != nil {
			p.stop()
		}
	}
	if s.redis != nil {
		s.redis.Close()
	}
}

// startRelay starts the reference and what it relays.
func startRelay(ctx context.Context, messageBytes int, every time.Duration) (relay *process, addr string, stop func(), err error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, "", nil, err
	}
	source, err := start(ctx, nil, "bench", "source", local(ports[0]), strconv.Itoa(messageBytes), every.String())
	if err != nil {
		return nil, "", nil, err
	}
	if err := source.listens(ctx, ports[0]); err != nil {
		source.stop()
		return nil, "", nil, err
	}
	relay, err = start(ctx, nil, "bench", "relay", local(ports[1]), strconv.Itoa(messageBytes), local(ports[0]))
	if err != nil {
		source.stop()
		return nil, "", nil, err
	}
	stop = func() { relay.stop(); source.stop() }
	if err := relay.listens(ctx, ports[1]); err != nil {
		stop()
		return nil, "", nil, err
	}
	return relay, local(ports[1]), stop, nil
}

// compare measures edge and relay in turn.
func (o Options) compare(ctx context.Context, s scenario, sessions int, sink *sink) (Result, error) {
	system, err := o.startSystem(ctx, sink, s.traced)
	if err != nil {
		return Result{}, err
	}
	defer system.stop()
	edge, worker := newSum(system.edge, sessions), newSum(system.worker, sessions)
	dial := dialEdge(system.url+"?"+s.query, s.binary, utterance)

	// How large the edge's messages are, for the relay's to be the same.
	first, err := listenAll(ctx, 1, session.FrameDuration*10, s.paced, dial, func() error { return nil })
	if err != nil {
		return Result{}, err
	}
	if first.frames == 0 {
		return Result{}, fmt.Errorf("nothing was heard")
	}
	messageBytes := int(first.bytes / first.frames)
	every := time.Duration(0)
	if s.paced {
		every = session.FrameDuration
	}
	process, addr, stop, err := startRelay(ctx, messageBytes, every)
	if err != nil {
		return Result{}, err
	}
	defer stop()
	relay := newSum(process, sessions)

	var ratios []float64
	for range o.Rounds {
		for _, side := range []struct {
			sums []*sum
			dial func(context.Context) (listener, error)
		}{{[]*sum{relay}, dialRelay(addr, messageBytes)}, {[]*sum{edge, worker}, dial}} {
			w, err := listenAll(ctx, sessions, o.Window, s.paced, side.dial, func() error {
				for _, sum := range side.sums {
					if err := sum.mark(); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return Result{}, err
			}
			if w.frames == 0 {
				return Result{}, fmt.Errorf("nothing was heard in %s", o.Window)
			}
			for _, sum := range side.sums {
				sum.add(w)
			}
		}
		ratios = append(ratios, edge.last/relay.last)
		o.say("%s, %d sessions: %.2f × the relay", s.name, sessions, edge.last/relay.last)
	}
	asked := 0.0
	if s.paced {
		asked = float64(sessions) * float64(time.Second/session.FrameDuration)
	}
	stamped := s == latencyScenario
	return Result{s.name, sessions, messageBytes, edge.measure(asked, stamped), relay.measure(asked, stamped), worker.cpu(), edge.cpu() / relay.cpu(), ratios}, nil
}

func (o Options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.Progress, format+"\n", args...)
}

// sum is a process's work over several windows.
type sum struct {
	process           *process
	sessions          int
	empty, full       int  // resident bytes before the first window, and the most at the end of one
	open              bool // within a window
	begun             reading
	ran, window       time.Duration // by the process, in all windows and in the last
	idle, there       time.Duration // of all the machine's cores
	frames            int64
	last              float64 // what a frame of the last window took, in microseconds
	lasting           time.Duration
	lateness, latency []time.Duration
}

func newSum(p *process, sessions int) *sum {
	empty, _ := p.memory() // mark says what is wrong
	return &sum{process: p, sessions: sessions, empty: empty}
}

// reading is of what counts on by itself.
type reading struct {
	at    time.Time
	ran   time.Duration // by the process
	idle  time.Duration // of all cores
	cores int
}

// mark begins or ends a window.
func (s *sum) mark() error {
	now := reading{at: time.Now()}
	var err error
	if now.ran, err = s.process.cpu(); err != nil {
		return err
	}
	if now.idle, now.cores, err = idle(); err != nil {
		return err
	}
	if s.open {
		s.window = now.ran - s.begun.ran
		s.ran += s.window
		s.idle += now.idle - s.begun.idle
		s.there += now.at.Sub(s.begun.at) * time.Duration(now.cores)
		var held int
		held, err = s.process.memory()
		s.full = max(s.full, held)
	}
	s.open, s.begun = !s.open, now
	return err
}

// add takes note of the window that has ended.
func (s *sum) add(w window) {
	s.last = micros(s.window) / float64(w.frames)
	s.frames += w.frames
	s.lasting += w.lasting
	s.lateness = append(s.lateness, w.lateness...)
	s.latency = append(s.latency, w.latency...)
}

// cpu is in microseconds a frame.
func (s *sum) cpu() float64 { return micros(s.ran) / float64(s.frames) }

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (s *sum) measure(asked float64, stamped bool) Measure {
	m := Measure{CPU: s.cpu(), Rate: float64(s.frames) / s.lasting.Seconds(), Busy: max(0, 1-float64(s.idle)/float64(s.there)), Memory: max(0, s.full-s.empty) / s.sessions}
	if asked == 0 {
		return m
	}
	slices.Sort(s.lateness)
	m.Pace, m.Lateness = m.Rate/asked, quantiles(s.lateness)
	if stamped {
		slices.Sort(s.latency)
		m.Latency = quantiles(s.latency)
	}
	return m
}
