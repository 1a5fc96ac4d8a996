package e2e

import (
	"fmt"
	"testing"
)

// system is an edge and workers as processes around a real Redis.
type system struct {
	t     testing.TB
	redis *redisServer
	edges int
}

func startSystem(t testing.TB) *system {
	t.Helper()
	return &system{t: t, redis: startRedis(t)}
}

// edge starts an edge, which is ready for connections but may not know a
// worker yet.
func (s *system) edge(env ...string) (p *process, url string) {
	s.t.Helper()
	s.edges++
	p = start(s.t, fmt.Sprintf("edge %d", s.edges), append([]string{
		"HOST=127.0.0.1", "PORT=0", "HEALTH_HOST=127.0.0.1", "HEALTH_PORT=0", "REDIS_URL=" + s.redis.url(),
	}, env...), "serve")
	line := p.await(1, "listening")
	return p, fmt.Sprintf("ws://127.0.0.1:%v", line["port"])
}

// worker starts a tone worker and waits until it is announced.
func (s *system) worker(name string, env ...string) *process {
	s.t.Helper()
	p := start(s.t, "worker "+name, append([]string{
		"WORKER_HOST=127.0.0.1", "WORKER_PORT=0", "WORKER_ENGINE=tone", "WORKER_NAME=" + name, "REDIS_URL=" + s.redis.url(),
	}, env...), "worker")
	p.await(1, "worker announced")
	return p
}
