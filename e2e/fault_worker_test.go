package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// speech is a text of a few seconds: long enough to be hit in the middle.
var speech = strings.Repeat("fault ", 12)

// hit starts a listener at an edge with two workers, speaks, and calls fault
// with the worker that speaks when a few frames have come.
func hit(t *testing.T, pacing string, fault func(s *system, speaking *process)) {
	t.Helper()
	s := startSystem(t)
	workers := map[string]*process{"w1": s.worker("w1"), "w2": s.worker("w2")}
	edge, url := s.edge("WORKER_STALL_TIMEOUT=500ms", "WORKER_FIRST_FRAME_TIMEOUT=1s", "LOG_LEVEL=debug")
	edge.await(1, "worker is healthy", "worker", "w1")
	edge.await(1, "worker is healthy", "worker", "w2")
	l := listen(t, "pacing="+pacing, url)
	var once sync.Once
	l.heard = func(sequence uint64) {
		if sequence == 20 {
			once.Do(func() {
				line := edge.await(1, "session bound to a worker")
				fault(s, workers[fmt.Sprint(line["worker"])])
			})
		}
	}
	l.say(speech)
	l.expectEnd(l.hear(1), len(speech))
	edge.await(1, "a worker failed; the utterance goes on elsewhere")
	l.say(speech) // and what is said next is spoken by the other
	l.expectEnd(l.hear(1), len(speech))
}

func TestFaultWorkerKilled(t *testing.T) {
	hit(t, "realtime", func(_ *system, speaking *process) { speaking.kill() })
}

func TestFaultWorkerStalled(t *testing.T) {
	hit(t, "realtime", func(_ *system, speaking *process) { speaking.signal(syscall.SIGSTOP) })
}

// behind is an edge whose two workers are reached through proxies.
func behind(t *testing.T, env ...string) (s *system, edge *process, url string, proxies [2]*proxy) {
	t.Helper()
	s = startSystem(t)
	tp := startToxiproxy(t)
	var addrs []string
	for i := range proxies {
		port := freePort(t)
		s.worker(fmt.Sprint("w", i), fmt.Sprint("WORKER_PORT=", port))
		proxies[i] = tp.to(fmt.Sprint("worker", i), fmt.Sprintf("127.0.0.1:%d", port))
		addrs = append(addrs, proxies[i].addr)
	}
	edge, url = s.edge(append([]string{"WORKER_ADDR=" + strings.Join(addrs, ","), "LOG_LEVEL=debug",
		"WORKER_STALL_TIMEOUT=500ms", "WORKER_FIRST_FRAME_TIMEOUT=1s"}, env...)...)
	for _, p := range proxies {
		edge.await(1, "worker is healthy", "worker", p.addr)
	}
	return s, edge, url, proxies
}

// hitProxy is hit for faults of the network before the speaking worker.
func hitProxy(t *testing.T, fault func(*proxy)) (edge *process) {
	t.Helper()
	_, edge, url, proxies := behind(t)
	l := listen(t, "", url)
	var once sync.Once
	l.heard = func(sequence uint64) {
		if sequence == 20 {
			once.Do(func() {
				name := edge.await(1, "session bound to a worker")["worker"]
				for _, p := range proxies {
					if p.addr == name {
						fault(p)
					}
				}
			})
		}
	}
	l.say(speech)
	l.expectEnd(l.hear(1), len(speech))
	return edge
}

func TestFaultWorkerConnectionCut(t *testing.T) {
	hitProxy(t, (*proxy).cut).await(1, "a worker failed; the utterance goes on elsewhere")
}

func TestFaultWorkerConnectionReset(t *testing.T) {
	hitProxy(t, func(p *proxy) { p.poison("reset_peer", "downstream", map[string]any{"timeout": 0}) }).
		await(1, "a worker failed; the utterance goes on elsewhere")
}

func TestFaultWorkerBlackHole(t *testing.T) {
	hitProxy(t, func(p *proxy) { p.poison("timeout", "downstream", map[string]any{"timeout": 0}) }).
		await(1, "a worker failed; the utterance goes on elsewhere")
}

// A slow network is no reason to change the worker: all of it comes, late.
func TestFaultWorkerSlow(t *testing.T) {
	hitProxy(t, func(p *proxy) {
		p.poison("latency", "downstream", map[string]any{"latency": 100, "jitter": 50})
		p.poison("bandwidth", "downstream", map[string]any{"rate": 150})
	})
}

// corruptor is a relay that flips bits behind so many bytes of the worker's,
// once.
func corruptor(t *testing.T, upstream string, armed *atomic.Bool) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			worker, err := net.Dial("tcp", upstream)
			if err != nil {
				_ = client.Close()
				continue
			}
			relays.Go(func() { _, _ = io.Copy(worker, client); _ = worker.Close() })
			relays.Go(func() { corrupt(client, worker, armed); _ = client.Close(); _ = worker.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); relays.Wait() })
	return ln.Addr().String()
}

func corrupt(to io.Writer, from io.Reader, armed *atomic.Bool) {
	buf := make([]byte, 8<<10)
	for {
		n, err := from.Read(buf)
		if n > 100 && armed.CompareAndSwap(true, false) {
			for i := range buf[:n] {
				buf[i] ^= 0xa5
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

func TestFaultWorkerCorrupting(t *testing.T) {
	s := startSystem(t)
	var armed atomic.Bool
	var addrs []string
	for i := range 2 {
		port := freePort(t)
		s.worker(fmt.Sprint("w", i), fmt.Sprint("WORKER_PORT=", port))
		addrs = append(addrs, corruptor(t, fmt.Sprintf("127.0.0.1:%d", port), &armed))
	}
	edge, url := s.edge("WORKER_ADDR=" + strings.Join(addrs, ","))
	edge.await(1, "worker is healthy", "worker", addrs[0])
	edge.await(1, "worker is healthy", "worker", addrs[1])
	l := listen(t, "", url)
	l.heard = func(sequence uint64) {
		if sequence == 20 {
			armed.Store(true)
		}
	}
	l.say(speech)
	l.expectEnd(l.hear(1), len(speech))
	edge.await(1, "a worker failed; the utterance goes on elsewhere")
}

// The only worker dies: the client is told, and speaks on when one is back.
func TestFaultLastWorkerKilled(t *testing.T) {
	s := startSystem(t)
	w := s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy", "worker", "w1")
	c := connect(t, url)
	c.say(speech)
	for range 20 {
		c.next()
	}
	w.kill()
	var last message
	for m := c.next(); m.Type == "audio"; m = c.next() {
		last = m
	}
	end := c.next()
	if end.Reason != "failed" || end.LastSequence < last.Sequence {
		t.Fatalf("%+v", end)
	}
	s.worker("w2")
	edge.await(1, "worker is healthy", "worker", "w2")
	c.say("again")
	pcm, _ := c.hearUtterance(end.LastSequence)
	checkTone(t, pcm, 440, len("again"))
}
