package handlers_test

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/handlers"
)

// The log says how a check is whenever that changes, and when it has failed
// since the start; the first seconds, in which workers are looked up, are left
// out of it.
func TestTheLogSaysHowACheckGoes(t *testing.T) {
	const passed = `level=INFO msg="check passed" check=redis` + "\n"
	const failed = `level=ERROR msg="check failed" check=redis cause=refused resolution="start it"` + "\n"
	moment, long := 1100*time.Millisecond, time.Minute
	type step struct {
		ok    bool
		lasts time.Duration
		said  string
	}
	for name, steps := range map[string][]step{
		"well from the start":    {{true, long, passed}},
		"well after a moment":    {{false, moment, ""}, {true, long, passed}},
		"failing from the start": {{false, moment, ""}, {false, long, failed}, {true, long, passed}},
		"failing in between":     {{true, moment, passed}, {false, long, failed}, {true, long, passed}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ok atomic.Bool
				ok.Store(steps[0].ok)
				probe := func(context.Context) error {
					if ok.Load() {
						return nil
					}
					return errors.New("refused")
				}
				var log logBuffer
				h := handlers.NewHealth([]handlers.Check{{Name: "redis", Resolution: "start it", Probe: probe}},
					func() error { return nil }, slog.New(slog.NewTextHandler(&log, nil)))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { h.Run(ctx); close(done) }()
				var want strings.Builder
				for i, step := range steps {
					ok.Store(step.ok)
					time.Sleep(step.lasts)
					synctest.Wait()
					want.WriteString(step.said)
					said := regexp.MustCompile(`time=\S+ `).ReplaceAllString(log.String(), "")
					must(t, said == want.String(), "step %d: %q, not %q", i, said, want.String())
				}
				cancel()
				<-done
			})
		})
	}
}
