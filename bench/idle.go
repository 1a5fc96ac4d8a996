package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Idle is what connections cost that say nothing.
type Idle struct {
	Connections int     `json:"connections"`
	EdgeBytes   int     `json:"edge_bytes_each"`
	RelayBytes  int     `json:"relay_bytes_each"`
	EdgeCPU     float64 `json:"edge_cpu_percent"` // of one core, for all
	RelayCPU    float64 `json:"relay_cpu_percent"`
	EdgeAlone   float64 `json:"edge_cpu_percent_alone"` // with no connection at all
}

func (o Options) idle(ctx context.Context, sink *sink) (Idle, error) {
	idle := Idle{Connections: o.Idle}
	system, err := o.startSystem(ctx, sink, false)
	if err != nil {
		return idle, err
	}
	if idle.EdgeAlone, err = o.cpuPercent(ctx, system.edge); err == nil {
		idle.EdgeBytes, idle.EdgeCPU, err = o.hold(ctx, system.edge, dialEdge(system.url, false, nil))
	}
	system.stop()
	if err != nil {
		return idle, err
	}
	relay, addr, stop, err := startRelay(ctx, 16, time.Hour)
	if err != nil {
		return idle, err
	}
	defer stop()
	idle.RelayBytes, idle.RelayCPU, err = o.hold(ctx, relay, dialRelay(addr, 16))
	o.say("%d idle connections: %.1f KB each, the relay %.1f KB", idle.Connections, float64(idle.EdgeBytes)/1024, float64(idle.RelayBytes)/1024)
	return idle, err
}

// hold opens the connections and returns what each takes of the process's memory
// when there are some hundreds already, and all of its time. What the first ones
// take, all share.
func (o Options) hold(ctx context.Context, p *process, dial func(context.Context) (listener, error)) (bytesEach int, cpuPercent float64, err error) {
	first, err := o.openIdle(ctx, o.Idle/4, dial)
	defer closeAll(first)
	if err != nil {
		return 0, 0, err
	}
	before, err := p.memory()
	if err != nil {
		return 0, 0, err
	}
	open, err := o.openIdle(ctx, o.Idle, dial)
	defer closeAll(open)
	if err != nil {
		return 0, 0, err
	}
	after, err := p.memory()
	if err != nil {
		return 0, 0, err
	}
	cpuPercent, err = o.cpuPercent(ctx, p)
	return (after - before) / o.Idle, cpuPercent, err
}

// idleWindows is how many windows one of idleness lasts: with three seconds or more each, it
// has the ping that an edge sends every 20 s, and the second that one may be late.
const idleWindows = 7

// cpuPercent is how much of a core the process takes while nothing is said.
func (o Options) cpuPercent(ctx context.Context, p *process) (float64, error) {
	window := idleWindows * o.Window
	s := newSum(p, 0)
	if err := s.mark(); err != nil {
		return 0, err
	}
	select {
	case <-time.After(window):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	err := s.mark()
	return 100 * s.ran.Seconds() / window.Seconds(), err
}

// openIdle opens connections, and waits for what that took to be given back.
func (o Options) openIdle(ctx context.Context, n int, dial func(context.Context) (listener, error)) (open []listener, err error) {
	open = make([]listener, n)
	errs := make([]error, n)
	places := make(chan struct{}, 32)
	var opening sync.WaitGroup
	for i := range open {
		opening.Go(func() {
			places <- struct{}{}
			open[i], errs[i] = dial(ctx)
			<-places
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		return open, err
	}
	select {
	case <-time.After(o.Window):
		return open, nil
	case <-ctx.Done():
		return open, ctx.Err()
	}
}

func closeAll(open []listener) {
	for _, l := range open {
		if l != nil {
			l.close()
		}
	}
}
