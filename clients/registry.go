package clients

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	scanCount = 500 // keys a SCAN step looks at
	mgetBatch = 200 // keys one MGET reads
)

// Registry reads from Redis which workers there are. It is a Source.
type Registry struct {
	redis   *redis.Client
	log     *slog.Logger
	changes chan string
	bad     map[string]string // keys that could not be read, and why: said once
}

// NewRegistry returns a registry; Run listens for changes.
func NewRegistry(client *redis.Client, log *slog.Logger) *Registry {
	return &Registry{redis: client, log: log, changes: make(chan string, 64), bad: map[string]string{}}
}

// Changes yields the name of a worker that says that it came or went.
func (r *Registry) Changes() <-chan string { return r.changes }

// Run listens for workers that come and go until ctx is done.
func (r *Registry) Run(ctx context.Context) {
	subscription := r.redis.Subscribe(ctx, RegistryChannel)
	defer func() { _ = subscription.Close() }()
	heard := subscription.ChannelWithSubscriptions()
	for {
		named := "" // of those that came and went before Redis listened for us, none is known by name
		select {
		case m := <-heard:
			if m == nil {
				return
			}
			if message, ok := m.(*redis.Message); ok {
				named = message.Payload
			}
		case <-ctx.Done():
			return
		}
		select {
		case r.changes <- named:
		default: // the next look finds it too
		}
	}
}

// Workers reads all announcements. One that cannot be read is passed over and
// logged. It is not safe for concurrent use.
func (r *Registry) Workers(ctx context.Context) ([]Announcement, error) {
	keys := map[string]bool{} // SCAN may return a key twice
	iter := r.redis.Scan(ctx, 0, RegistryPrefix+"*", scanCount).Iterator()
	for iter.Next(ctx) {
		keys[iter.Val()] = true
	}
	if err := iter.Err(); err != nil {
		return nil, err
	}
	var all []Announcement
	var batch []string
	for key := range keys {
		if batch = append(batch, key); len(batch) == mgetBatch {
			if err := r.read(ctx, batch, &all); err != nil {
				return nil, err
			}
			batch = batch[:0]
		}
	}
	if len(batch) > 0 {
		if err := r.read(ctx, batch, &all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r *Registry) read(ctx context.Context, keys []string, all *[]Announcement) error {
	values, err := r.redis.MGet(ctx, keys...).Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		text, ok := value.(string)
		if !ok {
			continue // expired since the SCAN, or no string
		}
		a, err := ParseAnnouncement([]byte(text), strings.TrimPrefix(keys[i], RegistryPrefix))
		if err != nil {
			r.complain(keys[i], err)
			continue
		}
		delete(r.bad, keys[i])
		*all = append(*all, a)
	}
	return nil
}

func (r *Registry) complain(key string, err error) {
	if r.bad[key] == err.Error() {
		return
	}
	r.bad[key] = err.Error()
	r.log.Warn("announcement cannot be read", "key", key, "cause", err.Error(),
		"resolution", "correct what the worker writes there; docs/workers.md has the format")
}

// Announcer keeps a worker in the registry.
type Announcer struct {
	redis *redis.Client
	log   *slog.Logger
}

// NewAnnouncer returns an announcer.
func NewAnnouncer(client *redis.Client, log *slog.Logger) *Announcer {
	return &Announcer{client, log}
}

// Run announces what current returns until ctx is done, and then takes it out.
func (a *Announcer) Run(ctx context.Context, current func() Announcement) {
	failing, known := false, false
	for {
		err := a.announce(ctx, current(), !known)
		if err != nil && ctx.Err() == nil && !failing {
			a.log.Warn("worker cannot announce itself; edges will not find it", "cause", err.Error(),
				"resolution", "see that Redis is reachable at REDIS_URL; it is tried again every second")
		}
		if err == nil && (failing || !known) {
			a.log.Info("worker announced", "worker", current().Name, "addr", current().Addr)
		}
		wait := AnnounceRefresh
		if failing = err != nil; failing {
			wait = time.Second
		} else {
			known = true
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			a.leave(current().Name)
			return
		}
	}
}

func (a *Announcer) announce(ctx context.Context, w Announcement, isNew bool) error {
	w.LastHeartbeat = float64(time.Now().Unix())
	value, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := a.redis.Set(ctx, RegistryPrefix+w.Name, value, AnnounceTTL).Err(); err != nil {
		return err
	}
	if isNew {
		return a.redis.Publish(ctx, RegistryChannel, w.Name).Err()
	}
	return nil
}

func (a *Announcer) leave(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := a.redis.Del(ctx, RegistryPrefix+name).Err(); err != nil {
		a.log.Warn("worker could not take itself out of the registry", "cause", err.Error(),
			"resolution", "nothing to do: it falls out within 30 seconds")
		return
	}
	_ = a.redis.Publish(ctx, RegistryChannel, name).Err() // it only saves the edges time
}
