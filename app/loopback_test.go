package app

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/voxedge/voxedge/telemetry"
	"github.com/voxedge/voxedge/worker"
)

// running is an edge and a tone worker on ports of this machine.
type running struct {
	t        *testing.T
	edge     *edge
	url      string
	stopEdge func() // cancels its context and awaits its end
}

// settings are those of a test's edge and worker.
func settings(t *testing.T, more map[string]string) Config {
	t.Helper()
	environ := map[string]string{
		"HOST": "127.0.0.1", "HEALTH_HOST": "127.0.0.1", "WORKER_HOST": "127.0.0.1",
		"PORT": "0", "HEALTH_PORT": "0", "WORKER_PORT": "0",
		"REDIS_URL": "off", "WORKER_ADDR": "127.0.0.1:1", "WORKER_ENGINE": "tone",
	}
	maps.Copy(environ, more)
	cfg, problems := LoadConfig(environ)
	for _, p := range problems {
		t.Fatal(p)
	}
	return cfg
}

func startEdge(t *testing.T, more map[string]string) *running {
	t.Helper()
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	log := telemetry.NewLog(t.Output(), level)

	w, err := newReferenceWorker(settings(t, more), log)
	if err != nil {
		t.Fatal(err)
	}
	stopWorker := background(t, "the worker", w.run)
	t.Cleanup(stopWorker)

	cfg := settings(t, more)
	cfg.WorkerAddr = fmt.Sprintf("127.0.0.1:%d", portOf(w.ln))
	e, err := newEdge(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	stopEdge := background(t, "the edge", e.run)
	t.Cleanup(stopEdge)

	until(t, "the edge is ready", func() bool { return e.ready() == nil })
	return &running{t, e, fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", portOf(e.public)), stopEdge}
}

// background runs what runs until its context is cancelled; stop does that,
// and holds it to a clean end.
func background(t *testing.T, what string, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s ended with: %v", what, err)
		}
	})
}

// until polls for what no event tells.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// tone is the sound of a text of so many characters.
func tone(hz float64, runes int) (pcm []byte) {
	for i := range runes * worker.ToneFramesPerRune {
		pcm = worker.AppendTone(pcm, hz, i)
	}
	return pcm
}

// checkSound compares bit by bit, and says where the two part.
func checkSound(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("the sound has %d bytes, want %d; it differs from byte %d (frame %d)", len(got), len(want), at, at/1920)
}
