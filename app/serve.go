package app

import (
	"context"
	"os"
	"runtime/debug"
)

// serve is the edge.
func serve(ctx context.Context, c command) error {
	if err := c.noArguments("serve"); err != nil {
		return err
	}
	cfg, log, err := c.configure(c.stdout, (*Config).checkServe)
	if err != nil {
		return err
	}
	defer levelBySignal(cfg, log)()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(33) // it allocates so little that less memory costs no time
	}
	e, err := newEdge(cfg, log)
	if err != nil {
		return told(log, "the edge cannot start", err)
	}
	return told(log, "the edge failed", e.run(ctx))
}
