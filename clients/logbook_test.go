package clients

import (
	"context"
	"log/slog"
	"maps"
	"sync"
)

// logBook keeps what is logged.
type logBook struct {
	own   map[string]string // the attributes of With
	pages *logPages
}

type logPages struct {
	mu    sync.Mutex
	lines []logLine
}

type logLine struct {
	message string
	attrs   map[string]string
}

func newLogBook() *logBook { return &logBook{pages: &logPages{}} }

func (b *logBook) logger() *slog.Logger { return slog.New(b) }

func (b *logBook) Enabled(context.Context, slog.Level) bool { return true }

func (b *logBook) Handle(_ context.Context, record slog.Record) error {
	line := logLine{record.Message, maps.Clone(b.own)}
	if line.attrs == nil {
		line.attrs = map[string]string{}
	}
	record.Attrs(func(a slog.Attr) bool {
		line.attrs[a.Key] = a.Value.String()
		return true
	})
	b.pages.mu.Lock()
	defer b.pages.mu.Unlock()
	b.pages.lines = append(b.pages.lines, line)
	return nil
}

func (b *logBook) WithAttrs(attrs []slog.Attr) slog.Handler {
	own := maps.Clone(b.own)
	if own == nil {
		own = map[string]string{}
	}
	for _, a := range attrs {
		own[a.Key] = a.Value.String()
	}
	return &logBook{own, b.pages}
}

func (b *logBook) WithGroup(string) slog.Handler { return b }

// find returns the lines with the message.
func (b *logBook) find(message string) (found []logLine) {
	b.pages.mu.Lock()
	defer b.pages.mu.Unlock()
	for _, line := range b.pages.lines {
		if line.message == message {
			found = append(found, line)
		}
	}
	return found
}
