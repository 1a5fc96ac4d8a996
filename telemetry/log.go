package telemetry

import (
	"io"
	"log/slog"
)

// NewLog returns a log of JSON lines with time, level and msg, whose level can
// be changed while it is in use.
func NewLog(w io.Writer, level *slog.LevelVar) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// Levels are the names that a log level may have.
var Levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}
