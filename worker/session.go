package worker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ttsSession is one session's place at the worker. PAUSE, RESUME and STOP act
// on it alone.
type ttsSession struct {
	model   string
	options map[string]string

	mu      sync.Mutex
	resumed chan struct{} // nil unless paused; closed to go on
	streams map[*context.CancelCauseFunc]struct{}
	active  time.Time
}

var errStopped = errors.New("stopped")

func newTTSSession(model string, options map[string]string) *ttsSession {
	return &ttsSession{model: model, options: options, streams: map[*context.CancelCauseFunc]struct{}{}, active: time.Now()}
}

// stream returns a context for one utterance, which STOP ends.
func (t *ttsSession) stream(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams[&cancel] = struct{}{}
	return ctx, func() {
		cancel(nil)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.streams, &cancel)
		t.active = time.Now()
	}
}

func (t *ttsSession) pause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resumed == nil {
		t.resumed = make(chan struct{})
	}
}

func (t *ttsSession) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resumed != nil {
		close(t.resumed)
		t.resumed = nil
	}
}

// stop ends what the session is saying; it also ends a pause.
func (t *ttsSession) stop() {
	t.resume()
	t.mu.Lock()
	defer t.mu.Unlock()
	for cancel := range t.streams {
		(*cancel)(errStopped)
	}
}

// gate waits while the session is paused.
func (t *ttsSession) gate(ctx context.Context) error {
	t.mu.Lock()
	resumed := t.resumed
	t.mu.Unlock()
	if resumed != nil {
		select {
		case <-resumed:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// idleSince returns how long no utterance has been spoken, 0 while one is.
func (t *ttsSession) idleSince(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.streams) > 0 {
		return 0
	}
	return now.Sub(t.active)
}
