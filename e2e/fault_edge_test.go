package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/voxedge/voxedge/clients"
)

func TestFaultEdgeKilled(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	first, url1 := s.edge()
	second, url2 := s.edge()
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	l := listen(t, "", url1, url2)
	var once sync.Once
	l.heard = func(sequence uint64) {
		if sequence == 50 {
			once.Do(first.kill)
		}
	}
	l.say(speech)
	l.say(speech)
	l.hear(1)
	l.expectEnd(l.hear(1), len(speech))
	if l.resumes != 1 {
		t.Errorf("%d resumes", l.resumes)
	}
}

// The edge dies before it can have told the journal much: right behind the
// first frames.
func TestFaultEdgeKilledAtOnce(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	second, url2 := s.edge()
	second.await(1, "worker is healthy")
	for range 5 {
		first, url1 := s.edge()
		first.await(1, "worker is healthy")
		l := listen(t, "", url1, url2)
		var once sync.Once
		l.heard = func(uint64) { once.Do(func() { time.Sleep(30 * time.Millisecond); first.kill() }) }
		l.say(speech)
		l.expectEnd(l.hear(1), len(speech))
	}
}

// A connection lost on the way, again and again, with the edge alive.
func TestFaultConnectionReset(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	p := startToxiproxy(t).to("edge", strings.TrimPrefix(url, "ws://"))
	l := listen(t, "", "ws://"+p.addr)
	l.heard = func(sequence uint64) {
		if sequence%60 == 0 {
			p.cut()
			p.mend()
		}
	}
	l.say(speech)
	l.say(speech)
	l.hear(1)
	l.expectEnd(l.hear(1), len(speech))
	if l.resumes < 3 {
		t.Errorf("only %d resumes", l.resumes)
	}
}

// Text that lay unread in the old connection is not among what the edge has
// accepted, and the client says it again. The limit has it lie there.
func TestFaultTextLostWithItsConnection(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("MAX_MESSAGES_PER_SECOND=1")
	edge.await(1, "worker is healthy")
	l := listen(t, "", url)
	for range 2 {
		l.send(map[string]any{"type": "ping"})
	}
	l.say("lost")
	_ = l.ws.CloseNow()
	l.expectEnd(l.hear(1), len("lost"))
	if l.resumes != 1 {
		t.Errorf("%d resumes", l.resumes)
	}
}

// SIGTERM: a short utterance ends in peace, a long one is cut at the limit and
// goes on elsewhere.
func TestFaultEdgeDrained(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	first, url1 := s.edge("SHUTDOWN_TIMEOUT=2s")
	second, url2 := s.edge()
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	short, long := listen(t, "", url1, url2), listen(t, "", url1, url2)
	short.say("short text")
	long.say(speech)
	long.say(speech)
	for short.sequence == 0 {
		m, err := short.read()
		if err != nil {
			t.Fatal(err)
		}
		short.take(m)
	}
	first.signal(syscall.SIGTERM)
	first.await(1, "draining")
	if status, _ := health(t, first, "/readiness"); status != 503 {
		t.Errorf("a draining edge is ready: %d", status)
	}
	_, response, err := websocket.Dial(t.Context(), url1, nil)
	if err == nil || response == nil || response.StatusCode != 503 {
		t.Errorf("a draining edge takes a session: %v", err)
	}
	short.expectEnd(short.hear(1), len("short text"))
	if short.resumes != 0 {
		t.Error("the short utterance was cut off")
	}
	long.hear(1)
	long.expectEnd(long.hear(1), len(speech))
	if long.resumes != 1 {
		t.Errorf("%d resumes of the long one", long.resumes)
	}
	<-first.done
	first.await(1, "drained", "sessions_cut_off", 1)
}

// A connection that never says anything, and a collector of metrics that is away,
// are no reason to end badly.
func TestFaultEdgeEndsWellThoughOthersAreSilent(t *testing.T) {
	s := startSystem(t)
	edge, url := s.edge("SHUTDOWN_TIMEOUT=1s", "OTEL_METRICS_EXPORTER=otlp", fmt.Sprint("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:", freePort(t)))
	address := strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/v1/stream")
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	response, err := http.Get("http://" + address + "/v1/stream") // accepted after it
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	edge.signal(syscall.SIGTERM)
	<-edge.done
	if edge.err != nil {
		t.Errorf("the edge ended with %v:\n%s", edge.err, edge.output())
	}
}

// The client thinks better of it and goes back to the first edge, while the
// second still speaks to a connection that works: the second falls silent.
func TestFaultResumedBackAndForth(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	first, url1 := s.edge()
	second, url2 := s.edge()
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	l := listen(t, "", url1)
	l.say(speech)
	l.hearSome(20)
	_ = l.ws.CloseNow()
	l.urls = []string{url2}
	l.connect()
	l.hearSome(5)
	abandoned := l.ws
	l.urls = []string{url1}
	l.connect()
	told := make(chan error, 1)
	go func() {
		for {
			if _, _, err := abandoned.Read(context.Background()); err != nil {
				told <- err
				return
			}
		}
	}()
	l.expectEnd(l.hear(1), len(speech))
	if err := <-told; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the abandoned connection was told %v", err)
	}
	line := second.await(1, "session ended", "session_id", l.id)
	if line["reason"] != "resumed_elsewhere" || line["frames"].(float64) > 60 {
		t.Errorf("the second edge went on: %v", line)
	}
}

// Two edges behind a TCP proxy are replaced one after the other while a client
// listens: not a frame is lost.
func TestFaultRollingRestart(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	ports := []int{freePort(t), freePort(t)}
	run := func(i int) *process {
		p, _ := s.edge(fmt.Sprint("PORT=", ports[i]), "SHUTDOWN_TIMEOUT=500ms")
		p.await(1, "worker is healthy")
		return p
	}
	edges := []*process{run(0), run(1)}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	p := startToxiproxy(t).to("edges", at(0))
	l := listen(t, "", "ws://"+p.addr)
	restart := func(old, other int) {
		p.lead(at(other)) // as a load balancer does, which sees the readiness fall
		edges[old].stop()
		edges[old] = run(old)
	}
	var restarts sync.WaitGroup
	defer restarts.Wait()
	l.heard = func(sequence uint64) {
		switch sequence {
		case 50:
			restarts.Go(func() { restart(0, 1) })
		case 300:
			restarts.Wait()
			restarts.Go(func() { restart(1, 0) })
		}
	}
	l.say(speech)
	l.say(speech)
	l.say(speech)
	l.hear(2)
	l.expectEnd(l.hear(1), len(speech))
	if l.resumes < 2 {
		t.Errorf("only %d resumes", l.resumes)
	}
}

// The edge that is left has no place for the session: the client tries again, and
// loses nothing by it.
func TestFaultResumeWhereThereIsNoPlace(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	first, url1 := s.edge()
	second, url2 := s.edge("MAX_CONNECTIONS=1")
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	occupant := connect(t, url2)
	l := listen(t, "", url1)
	l.say(speech)
	l.hearSome(40)
	first.kill()
	if err := l.dial(url2); err == nil || !strings.Contains(err.Error(), "503") {
		t.Fatalf("a full edge answers %v", err)
	}
	_ = occupant.ws.CloseNow()
	l.urls = []string{url2}
	l.expectEnd(l.hear(1), len(speech))
}

// An edge that has no file descriptor left lets connections wait, and lives on.
func TestFaultOutOfFileDescriptors(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	l := listen(t, "", url)
	l.say(speech)
	l.hearSome(10)
	few := uint64(edge.usage(t).files) + 4
	if err := unix.Prlimit(edge.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: few}, nil); err != nil {
		t.Fatal(err)
	}
	var crowd []net.Conn
	for range 10 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "ws://"))
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, conn)
	}
	edge.await(1, "connections wait: the process has no file descriptor left")
	for _, conn := range crowd {
		_ = conn.Close()
	}
	bystander(t, url)
	l.expectEnd(l.hear(1), len(speech))
	if l.resumes != 0 {
		t.Error("a session was cut off")
	}
}

// The other edge must not tell a stranger anything, nor the client of a
// session that is over.
func TestFaultStaleTokens(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	first, url1 := s.edge()
	second, url2 := s.edge()
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	c := connect(t, url1)
	resume := func(token string) (status int) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ws, response, err := websocket.Dial(ctx, fmt.Sprintf("%s/?session=%s&resume_token=%s&after=0", url2, c.start.SessionID, token), nil)
		if err == nil {
			_ = ws.CloseNow()
			return 101
		}
		if response == nil {
			t.Fatal(err)
		}
		return response.StatusCode
	}
	awaitKey(t, s.redis, clients.JournalPrefix+c.start.SessionID) // else its end may come before its record
	if status := resume("guess"); status != 404 {
		t.Errorf("a wrong token was answered with %d", status)
	}
	if err := c.ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	first.await(1, "session ended")
	awaitGone(t, s.redis, clients.JournalPrefix+c.start.SessionID)
	if status := resume(c.start.ResumeToken); status != 404 {
		t.Errorf("a session that is over was resumed: %d", status)
	}
}
