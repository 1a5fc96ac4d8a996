package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/voxedge/voxedge/clients"
)

func TestHeldPortIsNamed(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	for _, tt := range []struct{ command, variable string }{
		{"serve", "PORT"}, {"serve", "HEALTH_PORT"}, {"worker", "WORKER_PORT"}, {"dev", "PORT"},
	} {
		environ := map[string]string{
			"HOST": "127.0.0.1", "HEALTH_HOST": "127.0.0.1", "WORKER_HOST": "127.0.0.1",
			"PORT": "0", "HEALTH_PORT": "0", "WORKER_ENGINE": "tone",
		}
		environ[tt.variable] = strconv.Itoa(portOf(held))
		got := runMain(environ, nil, tt.command)
		if got.status != exitFailed {
			t.Errorf("%s with %s held: the exit status is %d, want 1", tt.command, tt.variable, got.status)
		}
		log := got.stdout
		if tt.command == "dev" { // whose stdout is for people
			log = got.stderr
		}
		lines := logLines(t, log)
		if len(lines) == 0 {
			t.Errorf("%s with %s held: nothing is said", tt.command, tt.variable)
			continue
		}
		last := lines[len(lines)-1]
		if last.Level != "ERROR" || !strings.Contains(last.Cause, strconv.Itoa(portOf(held))) || !strings.Contains(last.Resolution, "set "+tt.variable+" ") {
			t.Errorf("%s with %s held: it says %+v", tt.command, tt.variable, last)
		}
	}
}

func TestHostOfAnotherMachineIsNamed(t *testing.T) {
	got := runMain(map[string]string{"HOST": "192.0.2.1", "HEALTH_HOST": "127.0.0.1", "PORT": "0", "HEALTH_PORT": "0"}, nil)
	lines := logLines(t, got.stdout)
	if got.status != exitFailed || len(lines) == 0 {
		t.Fatalf("the exit status is %d: %s", got.status, got.stdout)
	}
	last := lines[len(lines)-1]
	if !strings.Contains(last.Cause, "192.0.2.1") || !strings.Contains(last.Resolution, "HOST") {
		t.Errorf("it says %+v", last)
	}
}

// mainInBackground runs a command that goes on until it is told to end.
func mainInBackground(t *testing.T, environ map[string]string, args ...string) (log *bufio.Scanner, status <-chan int) {
	t.Helper()
	stdout, w := io.Pipe()
	var list []string
	for name, value := range environ {
		list = append(list, name+"="+value)
	}
	ended := make(chan int, 1)
	go func() {
		ended <- Main(args, list, nil, w, t.Output())
		_ = w.Close()
	}()
	t.Cleanup(func() { _ = stdout.Close() })
	return bufio.NewScanner(stdout), ended
}

// await reads the log up to the message.
func await(t *testing.T, log *bufio.Scanner, msg string) logLine {
	t.Helper()
	for log.Scan() {
		var line logLine
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatalf("%q is not a JSON line: %v", log.Text(), err)
		}
		if line.Msg == msg {
			return line
		}
	}
	t.Fatalf("%q was never logged", msg)
	return logLine{}
}

// terminate does what a platform does. Main listens for the signal before it
// logs anything.
func terminate(t *testing.T) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func TestServeEndsCleanlyOnSIGTERM(t *testing.T) {
	log, status := mainInBackground(t, map[string]string{
		"HOST": "127.0.0.1", "HEALTH_HOST": "127.0.0.1", "PORT": "0", "HEALTH_PORT": "0",
		"REDIS_URL": "off", "WORKER_ADDR": "127.0.0.1:1",
	})
	listening := await(t, log, "listening")
	if listening.Port == 0 {
		t.Error("it does not log the port it took")
	}
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/v1/stream", listening.Port))
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("plain HTTP is answered with %s", response.Status)
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	terminate(t)
	await(t, log, "draining")
	await(t, log, "stopped")
	if got := <-status; got != exitOK {
		t.Errorf("the exit status is %d, want 0", got)
	}
}

// A platform may change its mind before the edge has accepted anything.
func TestServeEndsWhenStoppedBeforeItAccepts(t *testing.T) {
	cfg := settings(t, nil)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for range 50 {
		e, err := newEdge(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.run(stopped); err != nil {
			t.Fatal(err)
		}
	}
}

// A worker that leaves must be out of the registry before its port is closed.
func TestWorkerIsInTheRegistryWhileItRuns(t *testing.T) {
	store := miniredis.RunT(t)
	log, status := mainInBackground(t, map[string]string{
		"WORKER_HOST": "127.0.0.1", "WORKER_PORT": "0", "WORKER_ENGINE": "tone", "WORKER_NAME": "w1", "WORKER_MAX_SESSIONS": "5",
		"REDIS_URL": "redis://" + store.Addr(),
	}, "worker")
	port := await(t, log, "worker listening").Port
	key := clients.RegistryPrefix + "w1"
	until(t, "the worker is announced", func() bool { return store.Exists(key) })
	value, err := store.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := clients.ParseAnnouncement([]byte(value), "")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("127.0.0.1:%d", port); a.Name != "w1" || a.Addr != want {
		t.Errorf("%q at %q is announced, want w1 at %q", a.Name, a.Addr, want)
	}
	if n := a.Capabilities.GetMaxConcurrentSessions(); n != 5 {
		t.Errorf("it announces %d sessions, want 5", n)
	}

	terminate(t)
	await(t, log, "worker stopped")
	if store.Exists(key) {
		t.Error("the worker is still announced")
	}
	if got := <-status; got != exitOK {
		t.Errorf("the exit status is %d, want 0", got)
	}
}
