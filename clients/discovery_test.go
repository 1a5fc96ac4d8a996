package clients

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/session"
)

const (
	never = time.Hour             // the edge looks only when the channel tells it to
	often = 20 * time.Millisecond // it looks as good as always
)

// discover returns an edge that finds its workers in Redis.
func discover(t *testing.T, server *redisServer, interval time.Duration, workers ...*ttsWorker) *edge {
	t.Helper()
	cfg := poolConfig()
	cfg.RefreshInterval = interval
	log := newLogBook()
	registry := NewRegistry(server.client(), log.logger())
	e := startEdgeAt(t, cfg, registry)
	e.workers = workers
	e.running.Go(func() { registry.Run(e.ctx) })
	return e
}

// registered returns the worker's announcement as it belongs in Redis.
func (w *ttsWorker) registered() Announcement {
	a := w.announcement()
	a.Addr = "grpc://" + a.Addr
	return a
}

// announce writes the worker's key, once.
func (r *redisServer) announce(client *redis.Client, w *ttsWorker) {
	r.t.Helper()
	r.put(client, RegistryPrefix+w.name, fmt.Sprintf(`{"name":%q,"addr":%q}`, w.name, w.registered().Addr))
}

func (e *edge) awaitKnown(n int) {
	e.t.Helper()
	e.until(fmt.Sprintf("%d workers are known", n), func() bool { _, known := e.pool.Workers(); return known == n })
}

func TestAWorkerComesAndGoesWithoutALook(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a, b := startWorker(t, "a", nil), startWorker(t, "b", nil)
	e := discover(t, server, never, a, b)
	server.awaitListeners(client, 1)
	announcing(t, client, newLogBook(), a.registered())
	e.awaitHealthy(1)
	e.hearTone(e.session("s", session.Params{}), "text")
	leave := announcing(t, client, newLogBook(), b.registered())
	e.awaitHealthy(2)
	leave()
	e.awaitHealthy(1)
	if name := (*e.pool.workers.Load())[0].Name; name != "a" {
		t.Errorf("worker %s stayed", name)
	}
}

// A worker that dies is not heard of again.
func TestAWorkerWhoseKeyExpiresGoes(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a, b := startWorker(t, "a", nil), startWorker(t, "b", nil)
	e := discover(t, server, often, a, b)
	server.announce(client, a)
	server.announce(client, b)
	e.awaitHealthy(2)
	b.die()
	e.until("the edge knows", func() bool { healthy, _ := e.pool.Workers(); return healthy == 1 })
	server.expire(client, "worker:b")
	e.awaitKnown(1)
	e.awaitHealthy(1)
}

func TestAWorkerMovesToAnotherAddress(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	old, moved := startWorker(t, "a", nil), startWorker(t, "a", nil)
	e := discover(t, server, often, old, moved)
	server.announce(client, old)
	e.awaitHealthy(1)
	s := e.session("s", session.Params{})
	e.hearTone(s, "one")
	gone := e.worker("a")
	server.announce(client, moved)
	e.until("the edge knows the new address", func() bool {
		all := *e.pool.workers.Load()
		return len(all) == 1 && all[0].Addr == moved.addr
	})
	e.awaitHealthy(1)
	e.hearTone(s, "two")
	old.await("EndSession s")
	if calls := moved.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the worker at the new address got %q, want one", calls)
	}
	e.until("the old connection is left", func() bool { return gone.sessions.Load() == 0 })
}

func TestWorkersStayWhileRedisIsGone(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a, late := startWorker(t, "a", nil), startWorker(t, "late", nil)
	e := discover(t, server, often, a, late)
	server.announce(client, a)
	e.awaitHealthy(1)
	s := e.session("s", session.Params{})
	e.hearTone(s, "with Redis")

	server.kill()
	awaitLog(t, e.log, "workers cannot be looked up; the last known are used")
	e.hearTone(s, "without Redis")
	e.hearTone(e.session("new", session.Params{}), "a new session without Redis")
	if err := e.pool.Ready(e.ctx); err != nil {
		t.Errorf("it is not ready without Redis: %v", err)
	}

	server.start()
	awaitLog(t, e.log, "workers can be looked up again")
	server.announce(client, a)
	server.announce(client, late)
	e.awaitHealthy(2)
	for _, message := range []string{"workers cannot be looked up; the last known are used", "workers can be looked up again"} {
		if n := len(e.log.find(message)); n != 1 {
			t.Errorf("%q was logged %d times, want once", message, n)
		}
	}
}

// The channel works again after Redis was gone, too.
func TestTheChannelIsListenedToAgain(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a := startWorker(t, "a", nil)
	e := discover(t, server, never, a)
	server.awaitListeners(client, 1)
	server.kill()
	server.start()
	server.awaitListeners(client, 1)
	announcing(t, client, newLogBook(), a.registered())
	e.awaitHealthy(1)
}

// loseData restarts Redis, and returns when the edge has seen it empty.
func (e *edge) loseData(server *redisServer) {
	e.t.Helper()
	server.kill()
	awaitLog(e.t, e.log, "workers cannot be looked up; the last known are used")
	server.start()
	awaitLog(e.t, e.log, "workers can be looked up again")
	e.pool.mu.Lock() // until that look has been acted on
	defer e.pool.mu.Unlock()
}

// A Redis that lost its data is likelier than that all workers left at once,
// while they are healthy, and for as long as an announcement holds.
func TestHealthyWorkersStayWhenRedisHasLostItsData(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a, b := startWorker(t, "a", nil), startWorker(t, "b", nil)
	e := discover(t, server, often, a, b)
	server.announce(client, a)
	server.announce(client, b)
	e.awaitHealthy(2)
	e.loseData(server)
	e.awaitHealthy(2)
	e.hearTone(e.session("s", session.Params{}), "text")

	e.pool.mu.Lock()
	for _, w := range e.pool.known {
		w.announcedAt = w.announcedAt.Add(-AnnounceTTL)
	}
	e.pool.mu.Unlock()
	e.awaitKnown(0)
}

// After that the workers announce themselves one by one, within ten seconds.
// The first to do so must not cost the edge the others.
func TestHealthyWorkersStayWhenTheFirstIsAnnouncedAgain(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a, b := startWorker(t, "a", nil), startWorker(t, "b", nil)
	e := discover(t, server, often, a, b)
	server.announce(client, a)
	server.announce(client, b)
	e.awaitHealthy(2)
	e.loseData(server)
	lastAnnounced := func() (last time.Time) {
		e.pool.mu.Lock()
		defer e.pool.mu.Unlock()
		for _, w := range e.pool.known {
			if w.announcedAt.After(last) {
				last = w.announcedAt
			}
		}
		return last
	}
	before := lastAnnounced()
	server.announce(client, a)
	e.until("the edge has read it", func() bool { return lastAnnounced().After(before) })
	if healthy, _ := e.pool.Workers(); healthy != 2 {
		t.Errorf("%d workers are left of two healthy ones", healthy)
	}
}

func TestUnhealthyWorkersGoWhenNoneIsAnnounced(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	a := startWorker(t, "a", nil)
	e := discover(t, server, often, a)
	server.announce(client, a)
	e.awaitHealthy(1)
	a.stop()
	e.until("the edge knows", func() bool { healthy, _ := e.pool.Workers(); return healthy == 0 })
	server.expire(client, "worker:a")
	e.awaitKnown(0)
}

func TestANewRedisURLIsChecked(t *testing.T) {
	for _, url := range []string{"", "localhost:6379", "http://localhost:6379", "redis://localhost:port"} {
		if client, err := NewRedis(url, newLogBook().logger()); err == nil {
			_ = client.Close()
			t.Errorf("%q was accepted", url)
		}
	}
}
