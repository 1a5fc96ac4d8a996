package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/voxedge/voxedge/telemetry"
)

// levelBySignal lets SIGHUP switch the log between LOG_LEVEL and debug, until
// stop is called.
func levelBySignal(cfg Config, log *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	var listening sync.WaitGroup
	listening.Go(func() {
		configured := telemetry.Levels[cfg.LogLevel]
		for range signals {
			level := slog.LevelDebug
			if cfg.level.Level() == slog.LevelDebug {
				level = configured
			}
			cfg.level.Set(level)
			log.Log(context.Background(), max(level, slog.LevelInfo), "log level changed", "log_level", level.String())
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		listening.Wait()
	}
}
