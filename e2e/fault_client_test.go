package e2e

import (
	"strings"
	"testing"
)

// proxiedEdge is an edge with one client behind a proxy and one beside it.
func proxiedEdge(t *testing.T, env ...string) (edge *process, p *proxy, url string) {
	t.Helper()
	s := startSystem(t)
	s.worker("w1")
	edge, url = s.edge(env...)
	edge.await(1, "worker is healthy")
	return edge, startToxiproxy(t).to("client", strings.TrimPrefix(url, "ws://")), url
}

// bystander speaks while another client misbehaves, and notices nothing.
func bystander(t *testing.T, url string) {
	t.Helper()
	l := listen(t, "", url)
	l.say("nobody else notices")
	l.expectEnd(l.hear(1), len("nobody else notices"))
}

// The client's network swallows everything: the edge finds out by itself.
func TestFaultClientVanished(t *testing.T) {
	edge, p, url := proxiedEdge(t, "PING_INTERVAL=500ms")
	c := connect(t, "ws://"+p.addr)
	c.say("x")
	c.hearUtterance(0)
	p.poison("timeout", "upstream", map[string]any{"timeout": 0})
	p.poison("timeout", "downstream", map[string]any{"timeout": 0})
	bystander(t, url)
	line := edge.await(1, "session ended", "session_id", c.start.SessionID)
	if line["reason"] != "connection_lost" {
		t.Errorf("%v", line)
	}
}

// The client does not read: its queue fills, the worker is held, and in the
// end it is closed and may come back for every frame it has not had.
func TestFaultClientStalled(t *testing.T) {
	edge, p, url := proxiedEdge(t, "SLOW_CLIENT_TIMEOUT=1s")
	l := listen(t, "pacing=none", "ws://"+p.addr)
	text := strings.Repeat("a long story ", 100)
	l.say(text)
	p.poison("bandwidth", "downstream", map[string]any{"rate": 0})
	bystander(t, url)
	edge.await(1, "session ended", "session_id", l.id, "reason", "slow_client")
	p.cure("bandwidth", "downstream")
	l.expectEnd(l.hear(1), len(text))
}

// The client takes a little all the time: it is slow, but it is served to the end.
func TestFaultClientTrickles(t *testing.T) {
	_, p, url := proxiedEdge(t, "SLOW_CLIENT_TIMEOUT=1s")
	l := listen(t, "pacing=none", "ws://"+p.addr)
	p.poison("bandwidth", "downstream", map[string]any{"rate": 100})
	text := "a drop at a time"
	l.say(text)
	bystander(t, url)
	l.expectEnd(l.hear(1), len(text))
	if l.resumes != 0 {
		t.Error("it was closed")
	}
}
