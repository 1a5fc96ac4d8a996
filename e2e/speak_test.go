package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

const paragraph = "The edge takes text from a client and gives it to a worker. The worker speaks it, frame by frame. " +
	"Each frame is twenty milliseconds long; none is lost, and none is late. Ünïcödé is counted in characters."

var paragraphRunes = utf8.RuneCountInString(paragraph)

func TestAGoClientHearsTheWorkerBitForBit(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	for _, path := range []string{"/", "/v1/stream"} {
		for _, pacing := range []string{"none", "realtime"} {
			text := paragraph
			if pacing == "realtime" {
				text = paragraph[:30]
			}
			c := connect(t, url+path+"?pacing="+pacing)
			c.say(text)
			pcm, end := c.hearUtterance(0)
			if end.Reason != "completed" {
				t.Fatalf("%+v", end)
			}
			checkTone(t, pcm, 440, utf8.RuneCountInString(text))
		}
	}
}

func TestWscatHearsTheWorkerBitForBit(t *testing.T) {
	wscat := need(t, "wscat")
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")

	request, _ := json.Marshal(map[string]any{"type": "text", "text": paragraph})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, wscat, "--connect", url+"/?pacing=none", "--execute", string(request), "--wait", "-1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // wscat leaves when its input ends
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := bytes.TrimPrefix(scanner.Bytes(), []byte("< "))
		if len(line) == 0 || line[0] != '{' {
			continue
		}
		lines = append(lines, bytes.Clone(line))
		if bytes.Contains(line, []byte(`"utterance_end"`)) {
			break
		}
	}
	cancel()
	_ = cmd.Wait()
	pcm, end := decodeMessages(t, lines)
	if end.Reason != "completed" {
		t.Fatalf("%+v after %d lines", end, len(lines))
	}
	checkTone(t, pcm, 440, paragraphRunes)
}

// Fifty sessions at once over one worker, each with a tone of its own.
func TestFiftySessionsEachHearOnlyTheirOwn(t *testing.T) {
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	var all sync.WaitGroup
	for i := range 50 {
		hz := 200 + 10*float64(i)
		c := connect(t, fmt.Sprintf("%s/?pacing=none&option.frequency=%g", url, hz))
		all.Go(func() {
			after := uint64(0)
			for range 2 {
				text := paragraph[:70]
				c.say(text)
				pcm, _ := c.hearUtterance(after)
				after += uint64(len(pcm) / 1920)
				checkTone(t, pcm, hz, len(text))
			}
		})
	}
	all.Wait()
}

// The voice itself: it lasts as long as speech does, and is loud where the
// words are.
func TestEspeakSpeaksThroughTheEdge(t *testing.T) {
	need(t, "espeak-ng")
	s := startSystem(t)
	s.worker("w1", "WORKER_ENGINE=espeak")
	edge, url := s.edge()
	edge.await(1, "worker is healthy")
	file := filepath.Join(t.TempDir(), "speech.wav")
	text := "The quick brown fox jumps over the lazy dog. Then it sleeps."
	out, err := exec.Command(binary, "say", text, "-o", file, "--url", url, "--language", "en").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "first audio after") || !strings.Contains(string(out), "0 gaps") {
		t.Errorf("say said %q", out)
	}
	wav, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	samples := wav[44:]
	seconds := float64(len(samples)) / 2 / 48000
	direct := espeakSeconds(t, text)
	if math.Abs(seconds-direct) > 0.5 {
		t.Errorf("%.2f s of speech, espeak-ng itself makes %.2f", seconds, direct)
	}
	loud := 0
	for i := 0; i+1920 <= len(samples); i += 1920 {
		var sum float64
		for n := i; n < i+1920; n += 2 {
			v := float64(int16(uint16(samples[n]) | uint16(samples[n+1])<<8))
			sum += v * v
		}
		if math.Sqrt(sum/960) > 500 {
			loud++
		}
	}
	if share := float64(loud) / (seconds * 50); share < 0.4 {
		t.Errorf("only %.0f %% of the frames are loud", share*100)
	}
}

func espeakSeconds(t *testing.T, text string) float64 {
	t.Helper()
	wav, err := exec.Command("espeak-ng", "--stdout", "-v", "en", text).Output()
	if err != nil {
		t.Fatal(err)
	}
	return float64(len(wav)-44) / 2 / 22050
}

// A worker is seen when it comes and when it goes, without waiting for the
// next look at Redis.
func TestWorkersComeAndGo(t *testing.T) {
	s := startSystem(t)
	edge, url := s.edge("WORKER_REFRESH_INTERVAL=1h")
	c := connect(t, url+"/?pacing=none")
	c.say("x")
	if m := c.next(); m.Code != "WORKER_UNAVAILABLE" {
		t.Fatalf("%+v", m)
	}
	if m := c.next(); m.Reason != "failed" {
		t.Fatalf("%+v", m)
	}
	w1 := s.worker("w1")
	edge.await(1, "worker is healthy", "worker", "w1")
	c.say("x")
	pcm, _ := c.hearUtterance(0)
	checkTone(t, pcm, 440, 1)
	s.worker("w2")
	edge.await(1, "worker is healthy", "worker", "w2")
	w1.stop()
	edge.await(1, "worker went", "worker", "w1")
	c.say("y")
	pcm, _ = c.hearUtterance(3)
	checkTone(t, pcm, 440, 1)
}

func TestDevIsEverythingInOneProcess(t *testing.T) {
	port, health := freePort(t), freePort(t)
	dev := start(t, "dev", []string{"WORKER_ENGINE=tone", fmt.Sprint("PORT=", port), fmt.Sprint("HEALTH_PORT=", health)}, "dev")
	dev.await(1, "check passed", "check", "worker")
	for deadline := time.Now().Add(patience); !strings.Contains(dev.output(), "voxedge say"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no greeting")
		}
	}
	for _, part := range []string{fmt.Sprintf("ws://localhost:%d/v1/stream", port), fmt.Sprintf("http://localhost:%d/health", health)} {
		if !strings.Contains(dev.output(), part) {
			t.Errorf("the greeting does not name %s", part)
		}
	}
	c := connect(t, fmt.Sprintf("ws://127.0.0.1:%d/?pacing=none", port))
	c.say(paragraph)
	pcm, _ := c.hearUtterance(0)
	checkTone(t, pcm, 440, paragraphRunes)
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", health))
	if err != nil || response.StatusCode != 200 {
		t.Errorf("health: %v %v", response, err)
	}
	_ = response.Body.Close()
}
