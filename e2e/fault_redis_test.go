package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/clients"
)

// health asks the edge's health port.
func health(t *testing.T, edge *process, path string) (status int, body map[string]any) {
	t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:%v%s", edge.await(1, "listening")["health_port"], path)
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	_ = json.Unmarshal(data, &body)
	return response.StatusCode, body
}

// withoutRedis takes Redis away and gives it back; in between, sessions go on
// and new ones come, and afterwards all is as before.
func withoutRedis(t *testing.T, s *system, edge *process, url string, take, back func()) {
	t.Helper()
	l := listen(t, "", url)
	l.say(speech)
	taken := false
	l.heard = func(sequence uint64) {
		if sequence == 20 && !taken {
			taken = true
			take()
		}
	}
	l.expectEnd(l.hear(1), len(speech))
	edge.await(1, "check failed", "check", "redis")
	status, body := health(t, edge, "/health")
	checks, _ := body["checks"].(map[string]any)
	redis, _ := checks["redis"].(map[string]any)
	if status != 503 || body["redis"] != false || redis["error"] == "" || redis["resolution"] == "" {
		t.Errorf("health without Redis: %d %v", status, body)
	}
	if status, body := health(t, edge, "/readiness"); status != 200 {
		t.Errorf("not ready without Redis: %v", body)
	}
	fresh := listen(t, "pacing=none", url) // the last known workers take new sessions
	fresh.say("new")
	fresh.expectEnd(fresh.hear(1), 3)

	back()
	edge.await(2, "check passed", "check", "redis")
	if status, body := health(t, edge, "/health"); status != 200 {
		t.Errorf("health when Redis is back: %d %v", status, body)
	}
	l.say(speech)
	l.expectEnd(l.hear(1), len(speech))
	s.worker("late") // and the registry is read again
	edge.await(1, "worker is healthy", "worker", "late")
}

func TestFaultRedisKilled(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("WORKER_REFRESH_INTERVAL=500ms")
	edge.await(1, "worker is healthy")
	edge.await(1, "check passed", "check", "redis")
	withoutRedis(t, s, edge, url, s.redis.kill, s.redis.start)
}

// Redis hangs: packets are swallowed, nothing is refused.
func TestFaultRedisHangs(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	p := startToxiproxy(t).to("redis", s.redis.addr())
	edge, url := s.edge("WORKER_REFRESH_INTERVAL=500ms", "REDIS_URL=redis://"+p.addr)
	edge.await(1, "worker is healthy")
	edge.await(1, "check passed", "check", "redis")
	withoutRedis(t, s, edge, url,
		func() { p.poison("timeout", "downstream", map[string]any{"timeout": 0}) },
		func() { p.cure("timeout", "downstream") })
}

// A Redis that comes back empty has forgotten the workers, which are alive.
func TestFaultRedisLosesItsData(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("WORKER_REFRESH_INTERVAL=100ms")
	edge.await(1, "worker is healthy")
	s.redis.kill()
	edge.await(1, "workers cannot be looked up; the last known are used")
	s.redis.start()
	edge.await(1, "workers can be looked up again")
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		l := listen(t, "pacing=none", url)
		l.say("x")
		l.expectEnd(l.hear(1), 1)
		_ = l.ws.CloseNow()
	}
}

// The same Redis has forgotten the sessions, too. They are saved at once, and not when
// they change.
func TestFaultRedisLosesSessions(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("RESUME_WINDOW=1h", "PING_INTERVAL=0s", "IDLE_TIMEOUT=0s") // it is not saved for another reason
	edge.await(1, "worker is healthy")
	l := listen(t, "", url)
	l.say(speech)
	l.expectEnd(l.hear(1), len(speech))
	client := redis.NewClient(&redis.Options{Addr: s.redis.addr()})
	defer client.Close()
	awaitSaved := func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // nobody is told
			record, err := client.HGet(t.Context(), clients.JournalPrefix+l.id, "record").Result()
			if strings.Contains(record, `"completed"`) { // nothing of it changes any more
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the session is saved as %q (%v)", record, err)
			}
		}
	}
	awaitSaved()
	s.redis.kill()
	s.redis.start()
	awaitSaved()
}
