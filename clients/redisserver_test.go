package clients

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// redisServer is a Redis that can be killed; what it held is lost then.
type redisServer struct {
	t    testing.TB
	addr string
	cmd  *exec.Cmd            // a real one
	mini *miniredis.Miniredis // or one in this process
}

// startRedis starts a real Redis where there is one. CI must have it; on a
// developer's machine an imitation does.
func startRedis(t testing.TB) *redisServer {
	t.Helper()
	r := &redisServer{t: t}
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no redis-server: apt-get install redis-server")
		}
		r.mini = miniredis.RunT(t)
		r.addr = r.mini.Addr()
		return r
	}
	r.addr = nothingListens(t)
	r.start()
	t.Cleanup(r.kill)
	return r
}

// start starts it, or starts it again, with nothing in it.
func (r *redisServer) start() {
	r.t.Helper()
	if r.mini != nil {
		if err := r.mini.Restart(); err != nil {
			r.t.Fatal(err)
		}
		r.mini.FlushAll()
		return
	}
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	client := r.client()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for client.Ping(ctx).Err() != nil {
		if ctx.Err() != nil {
			r.t.Fatal("redis-server does not answer")
		}
		time.Sleep(time.Millisecond) // it tells no one when it listens
	}
}

func (r *redisServer) kill() {
	if r.mini != nil {
		r.mini.Close()
		return
	}
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

// client returns a client that is closed with the test.
func (r *redisServer) client() *redis.Client {
	r.t.Helper()
	client, err := NewRedis(fmt.Sprintf("redis://%s", r.addr), newLogBook().logger())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = client.Close() })
	return client
}

// put writes a key as a worker of another make would.
func (r *redisServer) put(client *redis.Client, key, value string) {
	r.t.Helper()
	if err := client.Set(context.Background(), key, value, AnnounceTTL).Err(); err != nil {
		r.t.Fatal(err)
	}
}

// expire lets a key's time run out.
func (r *redisServer) expire(client *redis.Client, key string) {
	r.t.Helper()
	if err := client.PExpire(context.Background(), key, time.Millisecond).Err(); err != nil {
		r.t.Fatal(err)
	}
	if r.mini != nil {
		r.mini.FastForward(time.Second) // its clock stands still
	}
}

// awaitListeners waits until so many edges listen for workers that come and go.
func (r *redisServer) awaitListeners(client *redis.Client, n int64) {
	r.t.Helper()
	r.awaitSubscribers(client, RegistryChannel, n)
}

func (r *redisServer) awaitSubscribers(client *redis.Client, channel string, n int64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		counts, err := client.PubSubNumSub(ctx, channel).Result()
		if err == nil && counts[channel] == n {
			return
		}
		if ctx.Err() != nil {
			r.t.Fatalf("%d never listened: %v, %v", n, counts, err)
		}
		time.Sleep(time.Millisecond) // the subscriber is told, and no one else
	}
}
