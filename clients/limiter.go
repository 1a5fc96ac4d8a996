package clients

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

const (
	limitPrefix = "voxedge:limit:"
	// placeTTL is how long a place outlives an edge that died; it is renewed at a
	// third of that.
	placeTTL     = time.Minute
	limitTimeout = 300 * time.Millisecond
	// probeEvery is how soon Redis is asked again that did not answer.
	probeEvery = time.Second
	keepIdle   = 10 * time.Minute // local buckets
)

// Limiter holds limits over all edges in Redis, and over this one alone while
// Redis is away. It is a middleware.Limiter.
type Limiter struct {
	redis *redis.Client // nil: this edge alone
	rates *redis_rate.Limiter
	log   *slog.Logger
	away  atomic.Bool // Redis, when it was last asked
	work  sync.WaitGroup
	owing chan struct{} // something is owed

	mu      sync.Mutex
	places  map[string]int // taken at this edge, by subject
	buckets map[string]*bucket
	owed    map[string]int // audio that Redis was not told of, by its bucket
	held    map[*place]struct{}
}

type bucket struct {
	*rate.Limiter
	used time.Time
}

var _ middleware.Limiter = (*Limiter)(nil)

// NewLimiter returns a limiter; Run renews the places it has taken, and tells
// Redis what was spoken.
func NewLimiter(client *redis.Client, log *slog.Logger) *Limiter {
	l := &Limiter{redis: client, log: log, owing: make(chan struct{}, 1),
		places: map[string]int{}, buckets: map[string]*bucket{}, owed: map[string]int{}, held: map[*place]struct{}{}}
	if client != nil {
		l.rates = redis_rate.NewLimiter(client)
	}
	return l
}

// Run renews, tells and probes until ctx is done, and waits for what is under way.
func (l *Limiter) Run(ctx context.Context) {
	renewal, probe := time.NewTicker(placeTTL/3), time.NewTicker(probeEvery)
	defer renewal.Stop()
	defer probe.Stop()
	for {
		select {
		case <-renewal.C:
			l.forget()
			l.renew(ctx)
		case <-probe.C:
			l.probe(ctx)
		case <-l.owing:
			l.settle(ctx)
		case <-ctx.Done():
			l.settle(context.WithoutCancel(ctx))
			l.work.Wait()
			return
		}
	}
}

// place is one connection's.
type place struct {
	limiter *Limiter
	id      string
	subject middleware.Subject
	key     string // of the subject
	audio   string // of its bucket of audio
	closed  sync.Once
}

var _ middleware.Place = (*place)(nil)

// Count takes one off a rate of the subject.
func (l *Limiter) Count(ctx context.Context, s middleware.Subject, r middleware.Rate) *middleware.Denied {
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	if wait := l.take(ctx, keyOf(s), string(r), s.Limits.Connects, time.Minute, 1); wait > 0 {
		return &middleware.Denied{What: fmt.Sprintf("%d %s a minute for this %s", s.Limits.Connects, r, s.Kind), RetryAfter: wait}
	}
	return nil
}

func keyOf(s middleware.Subject) string { return s.Kind + ":" + s.Name }

// Enter takes a place of the subject.
func (l *Limiter) Enter(ctx context.Context, s middleware.Subject, replaces bool) (middleware.Place, *middleware.Denied) {
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	p := &place{limiter: l, id: rand.Text(), subject: s, key: keyOf(s), audio: "audio:" + keyOf(s)}
	if !l.admit(ctx, p, replaces) {
		return nil, &middleware.Denied{What: fmt.Sprintf("%d connections at once for this %s", s.Limits.Connections, s.Kind), RetryAfter: 5 * time.Second}
	}
	l.mu.Lock()
	l.held[p] = struct{}{}
	l.mu.Unlock()
	return p, nil
}

// takePlace forgets the places of edges that died, and takes one if there is any.
var takePlace = redis.NewScript(`
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", ARGV[1])
if redis.call("ZCARD", KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call("ZADD", KEYS[1], ARGV[3], ARGV[4])
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return 1`)

func (l *Limiter) admit(ctx context.Context, p *place, replaces bool) (ok bool) {
	limit := p.subject.Limits.Connections
	here := l.count(p, 1)
	if limit == 0 {
		return true
	}
	if replaces { // what it replaces is not given back yet, and never by an edge that died
		limit = math.MaxInt32
	}
	ok = here <= limit
	if ok && l.askable() {
		now := time.Now()
		taken, err := takePlace.Run(ctx, l.redis, []string{limitPrefix + "places:" + p.key}, now.UnixMilli(), limit,
			now.Add(placeTTL).UnixMilli(), p.id, placeTTL.Milliseconds()).Int()
		if l.asked(err) {
			ok = taken == 1
		}
	}
	if !ok {
		l.count(p, -1)
	}
	return ok
}

// count counts the places that this edge has taken of a subject.
func (l *Limiter) count(p *place, n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places[p.key] += n
	left := l.places[p.key]
	if left == 0 {
		delete(l.places, p.key)
	}
	return left
}

// askable reports whether Redis may be asked: there is one, and it answered last
// time. Only the probe asks one that did not, so that no client waits for it.
func (l *Limiter) askable() bool { return l.redis != nil && !l.away.Load() }

// probe asks a Redis that is away, and catches up when it answers.
func (l *Limiter) probe(ctx context.Context) {
	if l.redis == nil || !l.away.Load() {
		return
	}
	pinging, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	if l.asked(l.redis.Ping(pinging).Err()) {
		l.renew(ctx)
		l.settle(ctx)
	}
}

// asked takes note of whether Redis answers, and reports it.
func (l *Limiter) asked(err error) bool {
	if errors.Is(err, context.Canceled) { // who asked has gone, and Redis may be well
		return false
	}
	switch was := l.away.Swap(err != nil); {
	case err != nil && !was:
		l.log.Warn("limits are held by this edge alone until Redis answers", "cause", err.Error(), "resolution", "see that Redis is reachable at REDIS_URL")
	case err == nil && was:
		l.log.Info("limits are held over all edges again")
	}
	return err == nil
}

// take takes n off a rate, and returns how long to wait where it cannot.
func (l *Limiter) take(ctx context.Context, of, what string, limit int, per time.Duration, n int) (wait time.Duration) {
	if limit == 0 {
		return 0
	}
	key := what + ":" + of
	if l.askable() {
		result, err := l.rates.AllowN(ctx, limitPrefix+key, redis_rate.Limit{Rate: limit, Burst: limit, Period: per}, n)
		if l.asked(err) {
			return max(result.RetryAfter, 0)
		}
	}
	return l.takeHere(key, limit, per, n)
}

func (l *Limiter) takeHere(key string, limit int, per time.Duration, n int) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b := l.bucketOf(key, limit, per, now)
	if b.AllowN(now, n) {
		return 0
	}
	return max(time.Second, b.until(n, now))
}

// bucketOf is what this edge itself has counted. The lock is held.
func (l *Limiter) bucketOf(key string, limit int, per time.Duration, now time.Time) *bucket {
	b := l.buckets[key]
	if b == nil {
		b = &bucket{Limiter: rate.NewLimiter(rate.Limit(float64(limit)/per.Seconds()), limit)}
		l.buckets[key] = b
	}
	b.used = now
	return b
}

// Text takes the characters, unless the day's audio is used up.
func (p *place) Text(ctx context.Context, characters int) *session.Error {
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	limits := p.subject.Limits
	if problem := p.hush(p.limiter.silence(ctx, p)); problem != nil {
		return problem
	}
	if limits.Characters > 0 && characters > limits.Characters {
		return session.Errorf(session.RateLimited, "Send it in parts, a minute apart, or have the limit raised",
			"a text of %d characters is more than the limit of %d a minute for this %s", characters, limits.Characters, p.subject.Kind)
	}
	if wait := p.limiter.take(ctx, p.key, "characters", limits.Characters, time.Minute, characters); wait > 0 {
		return middleware.RateLimited(&middleware.Denied{What: fmt.Sprintf("%d characters a minute for this %s", limits.Characters, p.subject.Kind), RetryAfter: wait})
	}
	return nil
}

// Close gives the place back.
func (p *place) Close() {
	p.closed.Do(func() {
		l := p.limiter
		l.mu.Lock()
		delete(l.held, p)
		l.mu.Unlock()
		l.count(p, -1)
		if l.askable() && p.subject.Limits.Connections > 0 {
			l.work.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), limitTimeout)
				defer cancel()
				l.asked(l.redis.ZRem(ctx, limitPrefix+"places:"+p.key, p.id).Err())
			})
		}
	})
}

// forget forgets rates that nobody uses.
func (l *Limiter) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for key, b := range l.buckets {
		if now.Sub(b.used) > keepIdle && b.TokensAt(now) >= float64(b.Burst()) && l.owed[key] == 0 {
			delete(l.buckets, key)
		}
	}
}

// renew keeps the places of living connections.
func (l *Limiter) renew(ctx context.Context) {
	l.mu.Lock()
	held := make([]*place, 0, len(l.held))
	for p := range l.held {
		if p.subject.Limits.Connections > 0 {
			held = append(held, p)
		}
	}
	l.mu.Unlock()
	if !l.askable() || len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pipe := l.redis.Pipeline()
	until := time.Now().Add(placeTTL)
	for _, p := range held {
		key := limitPrefix + "places:" + p.key
		pipe.ZAdd(ctx, key, redis.Z{Score: float64(until.UnixMilli()), Member: p.id})
		pipe.PExpire(ctx, key, placeTTL)
	}
	_, err := pipe.Exec(ctx)
	l.asked(err)
}
