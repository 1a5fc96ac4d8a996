package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/voxedge/voxedge/worker"
)

// soakTime is how long the soak lasts; -short makes it a smoke test.
const soakTime = 2 * time.Minute

const (
	soakSessions = 200
	// poolFiles is how many more connections to Redis an edge may keep open after
	// a busy time.
	poolFiles = 12
)

// usage is what a process holds.
type usage struct{ goroutines, files, rssMB int }

func (p *process) usage(t *testing.T) (u usage) {
	t.Helper()
	pid := p.cmd.Process.Pid
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(files)
	u.rssMB = p.rssKB(t) / 1024
	u.goroutines = int(p.metrics(t)["go_goroutines"])
	return u
}

// metrics reads the process's metrics: values by name and attributes, as
// Prometheus is given them.
func (p *process) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%v/metrics", p.await(1, "listening")["health_port"]))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = response.Body.Close() }()
	values := map[string]float64{}
	scanner := bufio.NewScanner(response.Body)
	for scanner.Scan() {
		name, value, found := strings.Cut(scanner.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); found && err == nil {
			values[name] = v
		}
	}
	return values
}

// rssKB is the memory that the process has in use.
func (p *process) rssKB(t testing.TB) (kb int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("there is no /proc here: ", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return kb
}

// Two hundred clients talk, interrupt, go away without a word and come back,
// over two edges that share nothing but Redis. Every frame that any of them
// hears is held against what it must be, and in the end the edges hold no more
// than at the start.
func TestSoak(t *testing.T) {
	lasting := soakTime
	if testing.Short() {
		lasting = 5 * time.Second
	}
	s := startSystem(t)
	s.worker("w1")
	s.worker("w2")
	var edges []*process
	var urls []string
	for _, ring := range []string{"true", "false"} { // clients go from one to the other
		edge, url := s.edge("MAX_CONNECTIONS=1000", "IO_URING="+ring)
		edge.await(1, "worker is healthy", "worker", "w1")
		edge.await(1, "worker is healthy", "worker", "w2")
		edges, urls = append(edges, edge), append(urls, url)
	}
	warm := listen(t, "pacing=none", urls...) // so that what is made once is made before the count
	warm.say("warm")
	warm.expectEnd(warm.hear(1), 4)
	_ = warm.ws.CloseNow()
	var before [2]usage
	for i, edge := range edges {
		before[i] = edge.usage(t)
	}

	ctx, cancel := context.WithTimeout(context.Background(), lasting)
	defer cancel()
	var frames, stops, resumes atomic.Int64
	var talking sync.WaitGroup
	for i := range soakSessions {
		talking.Go(func() {
			l := listen(t, "", urls[i%2], urls[(i+1)%2])
			defer func() { _ = l.ws.CloseNow() }()
			l.heard = func(uint64) { frames.Add(1) }
			for ctx.Err() == nil && !t.Failed() {
				l.talk(&stops)
			}
			resumes.Add(int64(l.resumes))
		})
	}
	talking.Wait()
	t.Logf("%d frames, %d barge-ins, %d resumes", frames.Load(), stops.Load(), resumes.Load())
	if frames.Load() == 0 || stops.Load() == 0 || resumes.Load() == 0 {
		t.Error("the soak did not do what it is for")
	}
	for i, edge := range edges {
		var after usage
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			after = edge.usage(t)
			if after.goroutines <= before[i].goroutines+5 && after.files <= before[i].files+poolFiles || time.Now().After(deadline) {
				break
			}
		}
		t.Logf("edge %d: before %+v, after %+v", i+1, before[i], after)
		if after.goroutines > before[i].goroutines+5 || after.files > before[i].files+poolFiles {
			t.Errorf("edge %d: %+v at the start, %+v at the end", i+1, before[i], after)
		}
		if grown := after.rssMB - before[i].rssMB; grown > 400 { // under the race detector, which takes several times as much
			t.Errorf("edge %d has grown by %d MB", i+1, grown)
		}
	}
}

// talk is one turn of a client: an utterance that is heard out, stopped, or
// lost in the middle.
func (l *listener) talk(stops *atomic.Int64) {
	l.t.Helper()
	text := strings.Repeat("soak ", 1+rand.N(3))
	l.say(text)
	frames := len(text) * worker.ToneFramesPerRune
	switch rand.N(4) {
	case 0: // interrupt
		l.hearSome(rand.N(frames))
		l.send(map[string]any{"type": "control", "command": "STOP"})
		stops.Add(1)
		if end := l.hear(1); end.LastSequence != l.sequence {
			l.t.Errorf("STOP ended at %d, the last frame was %d", end.LastSequence, l.sequence)
		}
	case 1: // go away without a word
		l.hearSome(rand.N(frames))
		_ = l.ws.CloseNow()
		l.hear(1)
	default:
		l.hear(1)
	}
}

// hearSome takes up to n frames of the utterance.
func (l *listener) hearSome(n int) {
	for range n {
		m, err := l.read()
		if err != nil || m.Type != "audio" {
			l.t.Errorf("in the middle of an utterance: %+v %v", m, err)
			return
		}
		l.take(m)
	}
}
