package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/proto"
)

// announcing keeps a worker in the registry until it is called.
func announcing(t *testing.T, client *redis.Client, log *logBook, a Announcement) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewAnnouncer(client, log.logger()).Run(ctx, func() Announcement { return a })
	}()
	leave = func() {
		cancel()
		<-done
	}
	t.Cleanup(leave)
	return leave
}

func awaitLog(t *testing.T, log *logBook, message string) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(log.find(message)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q was never logged", message)
		}
	}
}

// names are the workers that the registry names, sorted.
func names(t *testing.T, r *Registry) (names []string) {
	t.Helper()
	all, err := r.Workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
}

// The key and its value are a contract with edges and tools of other makes.
func TestAnAnnouncementInRedis(t *testing.T) {
	server := startRedis(t)
	client, log := server.client(), newLogBook()
	leave := announcing(t, client, log, Announcement{
		Name: "w1", Addr: "grpc://10.0.0.7:50051",
		Capabilities:   &proto.Capabilities{Languages: []string{"en"}, MaxConcurrentSessions: 8, SessionControl: true},
		ResidentModels: []string{"tone"}, Metrics: Metrics{"rtf": 0.25, "queue_depth": 2},
	})
	awaitLog(t, log, "worker announced")
	ttl, err := client.PTTL(t.Context(), "worker:w1").Result()
	if err != nil {
		t.Fatal(err)
	}
	// What has passed of it is less than the time to the next refresh.
	if ttl > 30*time.Second || ttl <= 30*time.Second-AnnounceRefresh {
		t.Errorf("the key lives for %s, want 30s when it was written", ttl)
	}
	value, err := client.Get(t.Context(), "worker:w1").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(value, &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["last_heartbeat_ts"].(float64); !ok {
		t.Errorf("last_heartbeat_ts is %v", got["last_heartbeat_ts"])
	}
	delete(got, "last_heartbeat_ts")
	want := `{"addr":"grpc://10.0.0.7:50051","capabilities":{"languages":["en"],"max_concurrent_sessions":8,"session_control":true},` +
		`"metrics":{"queue_depth":2,"rtf":0.25},"name":"w1","resident_models":["tone"]}`
	if sorted, _ := json.Marshal(got); string(sorted) != want {
		t.Errorf("the value is %s, want %s", sorted, want)
	}

	leave()
	if n, err := client.Exists(t.Context(), "worker:w1").Result(); err != nil || n != 0 {
		t.Errorf("after the worker left, %d keys are there, %v", n, err)
	}
}

func TestTheRegistryReadsWhatAnAnnouncerWrites(t *testing.T) {
	server := startRedis(t)
	client, log := server.client(), newLogBook()
	announcing(t, client, log, Announcement{Name: "w1", Addr: "grpc://w:1", Capabilities: &proto.Capabilities{Languages: []string{"de"}}})
	awaitLog(t, log, "worker announced")
	all, err := NewRegistry(client, log.logger()).Workers(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("the workers are %v, %v; want one", all, err)
	}
	if a := all[0]; a.Name != "w1" || a.Addr != "w:1" || !slices.Equal(a.Capabilities.GetLanguages(), []string{"de"}) {
		t.Errorf("the worker is %+v", a)
	}
}

// A worker may start before Redis does.
func TestAnAnnouncerWaitsForRedis(t *testing.T) {
	server := startRedis(t)
	server.kill()
	client, log := server.client(), newLogBook()
	leave := announcing(t, client, log, Announcement{Name: "w1", Addr: "grpc://w:1"})
	awaitLog(t, log, "worker cannot announce itself; edges will not find it")
	server.start()
	awaitLog(t, log, "worker announced")
	if got := names(t, NewRegistry(client, log.logger())); !slices.Equal(got, []string{"w1"}) {
		t.Errorf("the workers are %q", got)
	}
	if lines := log.find("worker cannot announce itself; edges will not find it"); len(lines) != 1 {
		t.Errorf("it was logged %d times, want once", len(lines))
	}
	server.kill()
	leave() // does not hang, and says that it could not leave
	if lines := log.find("worker could not take itself out of the registry"); len(lines) != 1 {
		t.Errorf("it was logged %d times that it could not leave, want once", len(lines))
	}
}

func TestWhatCannotBeReadIsPassedOverAndLoggedOnce(t *testing.T) {
	server := startRedis(t)
	client, log := server.client(), newLogBook()
	server.put(client, "worker:good", `{"name":"good","addr":"grpc://w:1"}`)
	server.put(client, "worker:json", `{"name":`)
	server.put(client, "worker:addr", `{"name":"addr","addr":"http://w:1"}`)
	server.put(client, "worker:empty", "")
	server.put(client, "another:key", `{"name":"x","addr":"grpc://w:1"}`)
	registry := NewRegistry(client, log.logger())
	for range 3 {
		if got := names(t, registry); !slices.Equal(got, []string{"good"}) {
			t.Fatalf("the workers are %q, want the good one", got)
		}
	}
	const message = "announcement cannot be read"
	logged := map[string]int{}
	for _, line := range log.find(message) {
		logged[line.attrs["key"]]++
		if line.attrs["cause"] == "" || line.attrs["resolution"] == "" {
			t.Errorf("the log says %v", line.attrs)
		}
	}
	for _, key := range []string{"worker:json", "worker:addr", "worker:empty"} {
		if logged[key] != 1 {
			t.Errorf("%s was logged %d times, want once", key, logged[key])
		}
	}
	if len(logged) != 3 {
		t.Errorf("what was logged is %v", logged)
	}

	server.put(client, "worker:addr", `{"name":"addr","addr":"w"}`) // bad in another way
	names(t, registry)
	if n := len(log.find(message)); n != 4 {
		t.Errorf("%d lines were logged, want another one for another cause", n)
	}
	server.put(client, "worker:addr", `{"name":"addr","addr":"w:2"}`)
	if got := names(t, registry); !slices.Equal(got, []string{"addr", "good"}) {
		t.Errorf("the workers are %q, want the corrected one too", got)
	}
	server.put(client, "worker:addr", `{"name":"addr","addr":"w"}`)
	names(t, registry)
	if n := len(log.find(message)); n != 5 {
		t.Errorf("%d lines were logged, want another one when it is bad again", n)
	}
}

func TestKeysOfOtherTypesAreNoWorkers(t *testing.T) {
	server := startRedis(t)
	client := server.client()
	server.put(client, "worker:good", `{"name":"good","addr":"grpc://w:1"}`)
	for _, err := range []error{
		client.HSet(t.Context(), "worker:hash", "addr", "w:1").Err(),
		client.LPush(t.Context(), "worker:list", "w:1").Err(),
		client.SAdd(t.Context(), "worker:set", "w:1").Err(),
		client.ZAdd(t.Context(), "worker:sorted", redis.Z{Member: "w:1"}).Err(),
		client.XAdd(t.Context(), &redis.XAddArgs{Stream: "worker:stream", Values: []string{"addr", "w:1"}}).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, NewRegistry(client, newLogBook().logger())); !slices.Equal(got, []string{"good"}) {
		t.Errorf("the workers are %q, want the good one", got)
	}
}

// More than one step of SCAN and one MGET, among keys of others.
func TestManyWorkersAreReadOnceEach(t *testing.T) {
	const n = 2*scanCount + mgetBatch + 1
	server := startRedis(t)
	client := server.client()
	pipe := client.Pipeline()
	for i := range n {
		name := fmt.Sprintf("w%04d", i)
		pipe.Set(t.Context(), RegistryPrefix+name, fmt.Sprintf(`{"name":%q,"addr":"grpc://w:%d"}`, name, i+1), AnnounceTTL)
		pipe.Set(t.Context(), "other:"+name, "x", AnnounceTTL)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := names(t, NewRegistry(client, newLogBook().logger()))
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Errorf("%d workers were read, %d different, want %d", len(got), len(slices.Compact(got)), n)
	}
}

// KEYS would hold up a large Redis.
func TestTheRegistryNeverAsksForKEYS(t *testing.T) {
	server := startRedis(t)
	if server.mini != nil {
		t.Skip("the imitation does not count commands")
	}
	client := server.client()
	server.put(client, "worker:w1", `{"addr":"grpc://w:1"}`)
	names(t, NewRegistry(client, newLogBook().logger()))
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stats, "cmdstat_keys:") || !strings.Contains(stats, "cmdstat_scan:") || !strings.Contains(stats, "cmdstat_mget:") {
		t.Errorf("the commands are\n%s", stats)
	}
}
