package clients

import (
	"context"
	"fmt"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

const (
	day = 24 * time.Hour
	// second is what must be left of a day for more to be spoken. Audio is
	// counted in milliseconds.
	second = 1000
)

// Spoken takes it off the day, at this edge at once and in Redis soon.
func (p *place) Spoken(audio time.Duration) *session.Error {
	if p.subject.Limits.Audio == 0 {
		return nil
	}
	return p.hush(p.limiter.spoken(p, int(audio.Milliseconds())))
}

// hush is what a client is told whose day is used up for so long, if it is.
func (p *place) hush(wait time.Duration) *session.Error {
	if wait == 0 {
		return nil
	}
	return middleware.RateLimited(&middleware.Denied{What: fmt.Sprintf("%d seconds of audio a day for this %s", p.subject.Limits.Audio, p.subject.Kind), RetryAfter: wait})
}

// spoken counts here, into debt if need be, so that many who speak at once do
// not each get what is left. It returns how long nothing more may be spoken.
func (l *Limiter) spoken(p *place, ms int) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.audioOf(p, now)
	b.owe(ms, now)
	if l.redis != nil && ms > 0 {
		l.owed[p.audio] += ms
		select {
		case l.owing <- struct{}{}:
		default: // it is told already
		}
	}
	if b.TokensAt(now) >= 0 {
		return 0
	}
	return b.until(second, now)
}

// silence returns how long the subject must wait for another second of audio.
func (l *Limiter) silence(ctx context.Context, p *place) (wait time.Duration) {
	limit := p.subject.Limits.Audio
	if limit == 0 {
		return 0
	}
	left, known := 0, false
	if l.askable() {
		result, err := l.rates.AllowN(ctx, limitPrefix+p.audio, perDay(limit*second), 0)
		if known = l.asked(err); known {
			left = result.Remaining
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.audioOf(p, now)
	if known {
		b.learn(left-l.owed[p.audio], now)
	}
	return b.until(second, now)
}

func (l *Limiter) audioOf(p *place, now time.Time) *bucket {
	return l.bucketOf(p.audio, p.subject.Limits.Audio*second, day, now)
}

func perDay(ms int) redis_rate.Limit { return redis_rate.Limit{Rate: ms, Burst: ms, Period: day} }

// settle tells Redis what was spoken here, and learns what others have left of
// the day. What Redis does not take stays owed.
func (l *Limiter) settle(ctx context.Context) {
	for l.askable() {
		key, ms, limit := l.oneOwed()
		if key == "" {
			return
		}
		left, err := l.tell(ctx, key, ms, limit)
		answered := l.asked(err)
		l.mu.Lock()
		if answered {
			now := time.Now()
			l.bucketOf(key, limit, day, now).learn(left-l.owed[key], now)
		} else {
			l.owed[key] += ms
		}
		l.mu.Unlock()
		if !answered {
			return
		}
	}
}

func (l *Limiter) oneOwed() (key string, ms, limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, ms = range l.owed {
		delete(l.owed, key)
		return key, ms, l.buckets[key].Burst()
	}
	return "", 0, 0
}

func (l *Limiter) tell(ctx context.Context, key string, ms, limit int) (left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	result, err := l.rates.AllowAtMost(ctx, limitPrefix+key, perDay(limit), ms)
	if err != nil {
		return 0, err
	}
	return result.Remaining, nil
}

// owe takes n off, though it may not be there.
func (b *bucket) owe(n int, now time.Time) {
	for n > 0 {
		part := min(n, b.Burst())
		b.ReserveN(now, part)
		n -= part
	}
}

// learn takes off what others have taken, when so much is left in Redis, which
// cuts off what is no whole one.
func (b *bucket) learn(left int, now time.Time) { b.owe(int(b.TokensAt(now))-left-1, now) }

// until returns how long it is until there are n.
func (b *bucket) until(n int, now time.Time) time.Duration {
	missing := float64(n) - b.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Second, time.Duration(missing/float64(b.Limit())*float64(time.Second)))
}
