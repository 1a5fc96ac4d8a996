package bench

import (
	"context"
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
}

func (o Options) idle(ctx context.Context, sink *sink) (Idle, error) {
	idle := Idle{Connections: o.Idle}
	system, err := startSystem(ctx, sink, false)
	if err != nil {
		return idle, err
	}
	idle.EdgeBytes, idle.EdgeCPU, err = o.hold(ctx, system.edge, func(ctx context.Context) (listener, error) { return openSession(ctx, system.url, false) })
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

// hold opens the connections and returns what each takes of the process's
// memory, and all of its time.
func (o Options) hold(ctx context.Context, p *process, dial func(context.Context) (listener, error)) (bytesEach int, cpuPercent float64, err error) {
	warm, err := dial(ctx) // what the first takes, all share
	if err != nil {
		return 0, 0, err
	}
	defer warm.close()
	before, err := p.memory()
	if err != nil {
		return 0, 0, err
	}
	open := make([]listener, o.Idle)
	errs := make([]error, o.Idle)
	var opening sync.WaitGroup
	places := make(chan struct{}, 32)
	for i := range open {
		opening.Go(func() {
			places <- struct{}{}
			open[i], errs[i] = dial(ctx)
			<-places
		})
	}
	opening.Wait()
	for i, l := range open {
		if errs[i] != nil {
			return 0, 0, errs[i]
		}
		defer l.close()
	}
	select {
	case <-time.After(o.Window): // for what the opening took to be given back
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	after, err := p.memory()
	if err != nil {
		return 0, 0, err
	}
	s := &sum{process: p}
	if err := s.mark(); err != nil {
		return 0, 0, err
	}
	select {
	case <-time.After(o.Window):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	if err := s.mark(); err != nil {
		return 0, 0, err
	}
	return (after - before) / o.Idle, 100 * s.ran.Seconds() / o.Window.Seconds(), nil
}
