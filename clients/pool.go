package clients

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/telemetry"
)

// PoolConfig holds the times a worker is given, and how one is chosen.
type PoolConfig struct {
	Strategy          Strategy
	StartTimeout      time.Duration // for StartSession
	FirstFrameTimeout time.Duration // from the whole text to the first frame
	StallTimeout      time.Duration // between frames
	RefreshInterval   time.Duration // between looks at the registry
	MaxWorkers        int           // that connections are kept to; 0: all

	Recorder telemetry.WorkerRecorder // nil: nobody takes note
	Tracing  trace.TracerProvider     // of the calls to workers; nil: none are traced
	TLS      *tls.Config              // to workers; nil: none
}

// Source tells which workers there are. When it fails, the last known stay.
type Source interface {
	Workers(ctx context.Context) ([]Announcement, error)
	// Changes yields the name of a worker that says that it came or went.
	Changes() <-chan string
}

// Static is a Source of fixed addresses.
type Static []Announcement

// Workers returns them.
func (s Static) Workers(context.Context) ([]Announcement, error) { return s, nil }

// Changes returns nil: nothing changes.
func (s Static) Changes() <-chan string { return nil }

// Pool knows the workers and opens speakers to them.
type Pool struct {
	cfg    PoolConfig
	source Source
	log    *slog.Logger
	router router
	seed   maphash.Seed   // of its share of the workers
	calls  sync.WaitGroup // calls that outlive the session they are made for

	workers atomic.Pointer[[]*Worker]
	looked  atomic.Bool // the source has been asked at least once

	mu        sync.Mutex         // guards what follows, and who may replace workers
	known     map[string]*Worker // by name and address
	sourceErr error
}

// NewPool returns a pool, which Run fills and Close empties.
func NewPool(cfg PoolConfig, source Source, log *slog.Logger) *Pool {
	if cfg.Recorder == nil {
		cfg.Recorder = telemetry.Discard{}
	}
	p := &Pool{cfg: cfg, source: source, log: log, router: router{strategy: cfg.Strategy}, seed: maphash.MakeSeed(), known: map[string]*Worker{}}
	p.workers.Store(new([]*Worker))
	return p
}

// Run keeps the pool in step with its source until ctx is done.
func (p *Pool) Run(ctx context.Context) {
	ticker := time.NewTicker(p.cfg.RefreshInterval)
	defer ticker.Stop()
	named := ""
	for {
		p.refresh(ctx, named)
		named = ""
		select {
		case <-ticker.C:
		case named = <-p.source.Changes():
		case <-ctx.Done():
			return
		}
	}
}

// refresh asks the source and takes over its answer. A worker that is named has
// said itself that it came or went.
func (p *Pool) refresh(ctx context.Context, named string) {
	ctx, cancel := context.WithTimeout(ctx, max(p.cfg.RefreshInterval, time.Second))
	defer cancel()
	announced, err := p.source.Workers(ctx)
	if ctx.Err() == context.Canceled {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if (err == nil) != (p.sourceErr == nil) {
		if err != nil {
			p.log.Warn("workers cannot be looked up; the last known are used", "known", len(p.known),
				"cause", err.Error(), "resolution", "see that Redis is reachable at REDIS_URL")
		} else {
			p.log.Info("workers can be looked up again")
		}
	}
	p.sourceErr = err
	defer p.looked.Store(true)
	if err != nil {
		return
	}
	p.replace(share(announced, p.cfg.MaxWorkers, p.seed), named)
}

// replace makes the announced workers the pool's. One that is no longer
// announced but healthy stays for as long as its announcement would have: a
// Redis that lost its data is likelier than a worker that left without a word.
func (p *Pool) replace(announced []Announcement, named string) {
	now := time.Now()
	next := make(map[string]*Worker, len(announced))
	for _, a := range announced {
		id := a.Name + " " + a.Addr
		if next[id] != nil {
			continue // announced twice
		}
		w := p.known[id]
		if w == nil {
			if w = p.add(a); w == nil {
				continue
			}
		}
		w.announce(a)
		w.announcedAt = now
		next[id] = w
	}
	for id, w := range p.known {
		switch {
		case next[id] != nil:
		case w.Name != named && now.Sub(w.announcedAt) < AnnounceTTL && w.state.Load().err == nil && !moved(announced, w):
			next[id] = w
		default:
			p.log.Info("worker went", "worker", w.Name, "addr", w.Addr)
			w.retire()
		}
	}
	p.known = next
	list := make([]*Worker, 0, len(next))
	for _, id := range slices.Sorted(maps.Keys(next)) {
		list = append(list, next[id])
	}
	p.workers.Store(&list)
}

func (p *Pool) add(a Announcement) *Worker {
	w, err := newWorker(a, p.cfg.TLS, p.cfg.Tracing, p.log)
	if err != nil {
		p.log.Error("worker cannot be used", "worker", a.Name, "addr", a.Addr, "cause", err.Error(),
			"resolution", "correct the address it announces")
		return nil
	}
	p.log.Info("worker appeared", "worker", a.Name, "addr", a.Addr)
	return w
}

// moved reports whether the worker is announced at another address.
func moved(announced []Announcement, w *Worker) bool {
	return slices.ContainsFunc(announced, func(a Announcement) bool { return a.Name == w.Name })
}

// Close waits for calls under way and closes all connections. No speaker may
// be in use.
func (p *Pool) Close() {
	p.calls.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.known {
		w.close()
	}
	p.known = nil
	p.workers.Store(new([]*Worker))
}

// Ready returns nil when some worker could take a session now.
func (p *Pool) Ready(context.Context) error {
	if _, err := fitting(*p.workers.Load(), want{}, time.Now()); err != nil {
		if p.mu.Lock(); p.sourceErr != nil {
			err = fmt.Errorf("%w; and the lookup fails: %w", err, p.sourceErr)
		}
		p.mu.Unlock()
		return err
	}
	return nil
}

// Workers returns how many workers are healthy and how many are known.
func (p *Pool) Workers() (healthy, known int) {
	all := *p.workers.Load()
	for _, w := range all {
		if w.state.Load().err == nil {
			healthy++
		}
	}
	return healthy, len(all)
}

// pick chooses a worker, or says why there is none.
func (p *Pool) pick(need want) (*Worker, error) {
	if !p.looked.Load() {
		return nil, &noWorker{why: "workers have not been looked up yet", rest: checkedSoon}
	}
	return p.router.pick(*p.workers.Load(), need)
}

// Speaker opens a session's way to the workers. It asks none until there is
// something to speak.
func (p *Pool) Speaker(name string, params session.Params, model string) session.Speaker {
	if model == "" {
		model = params.Model
	}
	return &speaker{pool: p, id: name, params: params, model: model}
}
