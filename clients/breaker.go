package clients

import (
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// breaker keeps a worker that failed from being asked again and again: it
// rests for a time that grows with every failure, and then one caller may try.
type breaker struct {
	mu      sync.Mutex
	backoff *backoff.ExponentialBackOff // nil while all is well
	until   time.Time                   // the end of the rest
}

// allow reports whether the worker may be asked. After a rest it lets one
// caller through and rests again until that one has failed or succeeded.
func (b *breaker) allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backoff == nil {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(b.backoff.NextBackOff())
	return true
}

// rest returns how long the worker still rests, without taking a turn.
func (b *breaker) rest(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.until.Sub(now))
}

func (b *breaker) failed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backoff == nil {
		b.backoff = &backoff.ExponentialBackOff{
			InitialInterval: 200 * time.Millisecond, Multiplier: 2, MaxInterval: 30 * time.Second, RandomizationFactor: 0.5,
		}
		b.backoff.Reset()
	}
	if now.Before(b.until) {
		return // one of many that failed together
	}
	b.until = now.Add(b.backoff.NextBackOff())
}

func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backoff, b.until = nil, time.Time{}
}
