package clients

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// simulated is a fleet: edges that route with the real router over the workers
// of the real registry's share, and know of other edges' sessions only what the
// workers announce.
type simulated struct {
	edges   [][]*Worker // what each edge knows
	routers []*router
	loads   map[string]int // sessions at each worker
}

func simulate(workers, edges, most int) *simulated {
	s := &simulated{loads: map[string]int{}}
	all := announcements(workers, "en")
	for _, a := range all {
		s.loads[a.Name] = 0
	}
	for range edges {
		var known []*Worker
		for _, a := range share(slices.Clone(all), most, maphash.MakeSeed()) {
			w := &Worker{Name: a.Name}
			w.state.Store(&workerState{})
			known = append(known, w)
		}
		s.edges, s.routers = append(s.edges, known), append(s.routers, &router{strategy: LeastLoaded})
	}
	return s
}

// announce tells every edge how many sessions of others each worker has, as its
// queue depth.
func (s *simulated) announce() {
	for _, edge := range s.edges {
		for _, w := range edge {
			w.state.Store(&workerState{metrics: Metrics{"queue_depth": float64(s.loads[w.Name]) - float64(w.streams.Load())}})
		}
	}
}

// speak begins a session at an edge.
func (s *simulated) speak(t testing.TB, edge int) {
	w, err := s.routers[edge].pick(s.edges[edge], want{})
	if err != nil {
		t.Fatal(err)
	}
	w.streams.Add(1)
	s.loads[w.Name]++
}

// TestAFleetSharesItsLoad has thousands of workers and hundreds of edges take
// sessions as a reconnect storm brings them: all within one interval of the
// registry, of which the edges do not see each other's part.
func TestAFleetSharesItsLoad(t *testing.T) {
	for _, fleet := range []struct{ workers, edges, sessions, looks int }{
		{100, 10, 2_000, 1}, {1_000, 100, 20_000, 1}, {5_000, 400, 100_000, 1}, {5_000, 400, 100_000, 10},
	} {
		s := simulate(fleet.workers, fleet.edges, 200)
		for i := range fleet.sessions {
			if i%(fleet.sessions/fleet.looks) == 0 {
				s.announce()
			}
			s.speak(t, rand.IntN(fleet.edges))
		}
		most, idle := 0, 0
		for _, n := range s.loads {
			most = max(most, n)
			if n == 0 {
				idle++
			}
		}
		mean := float64(fleet.sessions) / float64(fleet.workers)
		t.Logf("%d workers, %d edges, %d sessions over %d looks: the busiest has %.2f times the mean, %d have none",
			fleet.workers, fleet.edges, fleet.sessions, fleet.looks, float64(most)/mean, idle)
		if float64(most) > 3*mean || idle > 0 {
			t.Errorf("the busiest worker has %d sessions where %g are the mean, %d have none", most, mean, idle)
		}
	}
}

// BenchmarkRegistryLook is what one look for workers costs, the edge in time and
// Redis in CPU. The reference is a look for a hundred workers in a Redis that
// has nothing else.
func BenchmarkRegistryLook(b *testing.B) {
	var reference time.Duration
	for _, fleet := range []struct{ workers, sessions int }{{100, 0}, {1_000, 0}, {5_000, 0}, {100, 100_000}, {5_000, 100_000}} {
		b.Run(fmt.Sprintf("workers=%d/sessions=%d", fleet.workers, fleet.sessions), func(b *testing.B) {
			ctx := context.Background()
			client := benchRedis(b)
			pipe := client.Pipeline()
			for i := range fleet.workers {
				pipe.Set(ctx, RegistryPrefix+strconv.Itoa(i), fmt.Sprintf(`{"name":"%d","addr":"grpc://10.0.0.1:5%04d","capabilities":{"languages":["en"]},"resident_models":["m"],"metrics":{"queue_depth":1},"last_heartbeat_ts":1}`, i, i), 0)
			}
			for i := range fleet.sessions {
				pipe.HSet(ctx, JournalPrefix+strconv.Itoa(i), "epoch", 1, "record", "{}")
			}
			if _, err := pipe.Exec(ctx); err != nil {
				b.Fatal(err)
			}
			registry := NewRegistry(client, slog.New(slog.DiscardHandler))
			before, began := redisCPU(b, client), time.Now()
			looks := 0
			for b.Loop() {
				looks++
				if all, err := registry.Workers(ctx); err != nil || len(all) != fleet.workers {
					b.Fatal(len(all), err)
				}
			}
			took := time.Since(began) / time.Duration(looks)
			if reference == 0 {
				reference = took
			}
			b.ReportMetric((redisCPU(b, client)-before)*1000/float64(looks), "redis-ms/look")
			b.ReportMetric(float64(took)/float64(reference), "ratio")
		})
	}
}

// BenchmarkPick is what choosing a worker costs at the begin of a session.
func BenchmarkPick(b *testing.B) {
	for _, workers := range []int{10, 200, 5_000} {
		s := simulate(workers, 1, 0)
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.routers[0].pick(s.edges[0], want{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchRedis(b *testing.B) *redis.Client {
	b.Helper()
	r := startRedis(b)
	if r.mini != nil {
		b.Skip("there is no redis-server")
	}
	return r.client()
}

// redisCPU is the time, in seconds, that Redis has used.
func redisCPU(b *testing.B, client *redis.Client) (total float64) {
	b.Helper()
	info, err := client.Info(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			total += seconds
		}
	}
	return total
}
