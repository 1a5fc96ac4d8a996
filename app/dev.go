package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// dev is everything in one process, for trying voxedge out. It takes PORT,
// HEALTH_PORT and the sessions' limits from the environment, and provides the
// rest itself.
func dev(ctx context.Context, c command) error {
	if err := c.noArguments("dev"); err != nil {
		return err
	}
	cfg, log, err := c.configure(c.stderr)
	if err != nil {
		return err
	}
	defer levelBySignal(cfg, log)()
	store := miniredis.NewMiniRedis()
	if err := store.Start(); err != nil {
		return told(log, "the embedded Redis cannot start", err)
	}
	defer store.Close()
	cfg.RedisURL, cfg.WorkerAddr = "redis://"+store.Addr(), ""
	cfg.WorkerHost, cfg.WorkerPort, cfg.WorkerName, cfg.WorkerAdvertise = "127.0.0.1", 0, "dev", ""

	if cfg.Origins == "" {
		cfg.Origins = "*" // the page that is being written is served by something else
	}

	e, err := newEdge(cfg, log)
	if err != nil {
		return told(log, "the edge cannot start", err)
	}
	w, err := newReferenceWorker(cfg, log)
	if err != nil {
		return told(log, "the worker cannot start", err)
	}

	// The worker and Redis outlast the edge, which may still have things to say.
	behind, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { keepTime(behind, store) })
	workerDone := make(chan error, 1)
	running.Go(func() { workerDone <- w.run(behind) })
	running.Go(func() { c.greet(ctx, e) })

	err = e.run(ctx)
	stop()
	running.Wait()
	return told(log, "voxedge dev failed", firstError(err, <-workerDone))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// keepTime lets keys expire: the embedded Redis has no clock of its own.
func keepTime(ctx context.Context, store *miniredis.Miniredis) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			store.FastForward(time.Second)
		case <-ctx.Done():
			return
		}
	}
}

// greet says where everything is once it can be used.
func (c command) greet(ctx context.Context, e *edge) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for e.ready() != nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	url := fmt.Sprintf("ws://localhost:%d/v1/stream", portOf(e.public))
	_, _ = fmt.Fprintf(c.stdout, `
voxedge is ready.

  WebSocket  %s
  health     http://localhost:%d/health

Speak, in another terminal:

  %s

Ctrl-C ends it.

`, url, portOf(e.private), sayLine(url, portOf(e.public)))
}

// sayLine is a command that speaks on this machine.
func sayLine(url string, port int) string {
	line := `bin/voxedge say "Hello from voxedge."`
	if port != defaultPort {
		line += " --url " + url
	}
	if _, err := findPlayer(); err != nil {
		line += " -o hello.wav"
	}
	return line
}

const defaultPort = 8080
