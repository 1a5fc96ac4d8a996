package bench

import (
	"context"
	"errors"
	"testing"
	"time"
)

// However many sessions are to begin, none does once it is of no use.
func TestNoSessionBeginsInVain(t *testing.T) {
	const many = 1 << 20 // half an hour
	failed := errors.New("no connection")
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"interrupted":     {interrupted, context.Canceled},
		"the first fails": {t.Context(), failed},
	} {
		_, err := listenAll(test.ctx, many, time.Hour, true, func(context.Context) (listener, error) { return nil, failed }, func() error { return nil })
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
