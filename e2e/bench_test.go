package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The benchmarks time voxedge as a client meets it. This machine is nobody's
// alone, so each prints a ratio to a reference measured in the same run; the
// absolute times beside it are for orientation.
//
//	go test -run '^$' -bench . ./e2e

// fastBinary is voxedge as it is built for production.
var fastBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "voxedge-fast")
	build := exec.Command("go", "build", "-o", path, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func startFastSystem(b testing.TB) *system {
	b.Helper()
	withoutRaceDetector(b)
	return startSystem(b)
}

// withoutRaceDetector has the test use a voxedge as it is in production.
func withoutRaceDetector(b testing.TB) {
	b.Helper()
	fast, err := fastBinary()
	if err != nil {
		b.Fatal(err)
	}
	raced := binary
	binary = fast
	b.Cleanup(func() { binary = raced })
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// report prints quantiles of what was measured, and the ratio of its median
// and 99th percentile to the reference's.
func report(b *testing.B, measured, reference []time.Duration) {
	b.Helper()
	slices.Sort(measured)
	slices.Sort(reference)
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}} {
		b.ReportMetric(float64(quantile(measured, q.at).Microseconds())/1000, q.name+"-ms")
	}
	b.ReportMetric(float64(quantile(measured, 0.5))/float64(quantile(reference, 0.5)), "p50-ratio")
	b.ReportMetric(float64(quantile(measured, 0.99))/float64(quantile(reference, 0.99)), "p99-ratio")
	b.ReportMetric(0, "ns/op") // it says nothing here
}

// BenchmarkBargeIn times from a PAUSE sent to the last frame received, while
// frames flow as fast as they are read. The reference is a ping's way there and
// back through the same stream: what is on its way when a command is sent comes
// before the answer to anything.
func BenchmarkBargeIn(b *testing.B) {
	s := startFastSystem(b)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	var measured, reference []time.Duration
	for b.Loop() {
		c := connect(b, url+"/?pacing=none")
		c.say(strings.Repeat("a", 10_000))
		for range 10 {
			for range 100 {
				c.next()
			}
			began := time.Now()
			c.send(map[string]any{"type": "ping"})
			for m := c.next(); m.Type == "audio"; {
				m = c.next()
			}
			reference = append(reference, time.Since(began))
			for range 100 {
				c.next()
			}
			began = time.Now()
			last := began
			c.send(map[string]any{"type": "control", "command": "PAUSE"})
			c.send(map[string]any{"type": "ping"})
			for m := c.next(); m.Type == "audio"; m = c.next() {
				last = time.Now()
			}
			measured = append(measured, max(last.Sub(began), time.Microsecond))
			c.send(map[string]any{"type": "control", "command": "RESUME"})
		}
		_ = c.ws.CloseNow()
	}
	report(b, measured, reference)
}

// BenchmarkFailover times the longest gap between two frames of an utterance
// whose worker is killed. The reference is the longest gap of one left in peace.
// The client, kept 200 ms ahead, hears nothing of a gap below 10 ×.
func BenchmarkFailover(b *testing.B) {
	var measured, reference []time.Duration
	for b.Loop() {
		s := startFastSystem(b)
		workers := map[string]*process{"w1": s.worker("w1"), "w2": s.worker("w2")}
		edge, url := s.edge("LOG_LEVEL=debug")
		edge.await(1, "worker is healthy", "worker", "w1")
		edge.await(1, "worker is healthy", "worker", "w2")
		l := listen(b, "", url)
		var last time.Time
		var gap time.Duration
		kill := false
		l.heard = func(uint64) {
			now := time.Now()
			if l.place > 15 {
				gap = max(gap, now.Sub(last))
			}
			last = now
			if kill && l.place == 30 {
				workers[fmt.Sprint(edge.await(1, "session bound to a worker")["worker"])].kill()
			}
		}
		for _, kill = range []bool{false, true} {
			gap = 0
			l.say(speech)
			l.expectEnd(l.hear(1), len(speech))
			if kill {
				measured = append(measured, gap)
			} else {
				reference = append(reference, gap)
			}
		}
		_ = l.ws.CloseNow()
	}
	report(b, measured, reference)
}

// BenchmarkResume times from dialling another edge to the next frame, after the
// first edge was killed. The reference is dialling and the first frame of a new
// session.
func BenchmarkResume(b *testing.B) {
	var measured, reference []time.Duration
	for b.Loop() {
		s := startFastSystem(b)
		s.worker("w1")
		first, url1 := s.edge()
		second, url2 := s.edge()
		first.await(1, "worker is healthy")
		second.await(1, "worker is healthy")

		began := time.Now()
		fresh := listen(b, "", url2)
		var at time.Duration
		fresh.heard = func(sequence uint64) {
			if sequence == 1 {
				at = time.Since(began)
			}
		}
		fresh.say("a")
		fresh.hear(1)
		reference = append(reference, at)

		l := listen(b, "", url1, url2)
		l.say(speech)
		for l.sequence < 60 {
			m, err := l.read()
			if err != nil {
				b.Fatal(err)
			}
			l.take(m)
		}
		first.kill()
		_ = l.ws.CloseNow()
		l.urls = l.urls[1:]
		l.heard = func(sequence uint64) {
			if sequence == 61 {
				at = time.Since(began)
			}
		}
		began = time.Now()
		l.connect()
		l.hear(1)
		measured = append(measured, at)
		_, _ = fresh.ws.CloseNow(), l.ws.CloseNow()
	}
	report(b, measured, reference)
}

// BenchmarkLateness times how late paced frames come against the schedule that
// the first of them sets. The reference is a bare server of as many connections,
// a goroutine and a ticker each, that writes as many bytes.
func BenchmarkLateness(b *testing.B) {
	for _, sessions := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			s := startFastSystem(b)
			s.worker("w1")
			edge, url := s.edge("MAX_CONNECTIONS=2000")
			edge.await(1, "worker is healthy")
			var measured, reference []time.Duration
			for b.Loop() {
				reference = append(reference, collect(b, sessions, dialTicker(b))...)
				measured = append(measured, collect(b, sessions, dialEdge(b, url))...)
			}
			report(b, measured, reference)
		})
	}
}

const (
	latenessFrames = 250 // 5 s
	latenessLead   = 10  // frames that come at once
)

// next waits for a client's next message.
type next func() error

// collect has all clients receive, and returns how late each message after the
// lead was against the earliest schedule that any message of its client kept.
func collect(b *testing.B, clients int, dial func() (next, func())) (late []time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range clients {
		receive, hangUp := dial()
		all.Go(func() {
			defer hangUp()
			var offsets []time.Duration
			began := time.Now()
			for i := range latenessFrames {
				if err := receive(); err != nil {
					b.Error(err)
					return
				}
				if i >= latenessLead {
					offsets = append(offsets, time.Since(began)-time.Duration(i)*20*time.Millisecond)
				}
			}
			schedule := slices.Min(offsets)
			mu.Lock()
			defer mu.Unlock()
			for _, offset := range offsets {
				late = append(late, offset-schedule)
			}
		})
	}
	all.Wait()
	return late
}

func dialEdge(b *testing.B, url string) func() (next, func()) {
	return func() (next, func()) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		ws, _, err := websocket.Dial(ctx, url+"/v1/stream", &websocket.DialOptions{Subprotocols: []string{"voxedge.binary.v1"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte(`{"type":"text","text":"`+strings.Repeat("a", latenessFrames/3+1)+`"}`)); err != nil {
			b.Fatal(err)
		}
		receive := func() error {
			for {
				kind, _, err := ws.Read(ctx)
				if err != nil || kind == websocket.MessageBinary {
					return err
				}
			}
		}
		return receive, func() { _ = ws.CloseNow(); cancel() }
	}
}

func dialTicker(b *testing.B) func() (next, func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				ticker := time.NewTicker(20 * time.Millisecond)
				defer ticker.Stop()
				frame := make([]byte, 1940)
				for range latenessFrames {
					if _, err := conn.Write(frame); err != nil {
						return
					}
					<-ticker.C
				}
			}()
		}
	}()
	return func() (next, func()) {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		frame := make([]byte, 1940)
		receive := func() error {
			for n := 0; n < len(frame); {
				k, err := conn.Read(frame[n:])
				if err != nil {
					return err
				}
				n += k
			}
			return nil
		}
		return receive, func() { _ = conn.Close() }
	}
}
