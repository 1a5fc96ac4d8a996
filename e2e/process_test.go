package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// binary is voxedge, built once for all tests with the race detector in.
var binary string

func TestMain(m *testing.M) {
	if attackOnly() || forbiddenOnly() {
		return
	}
	dir, err := os.MkdirTemp("", "voxedge-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "voxedge")
	build := exec.Command("go", "build", "-race", "-o", binary, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "voxedge does not build:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// need fails in CI, and skips elsewhere, when a program is not installed.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed; .ci/run installs it", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

const patience = 60 * time.Second

// process is a running program whose JSON log lines can be awaited.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended

	mu      sync.Mutex
	changed *sync.Cond
	lines   []map[string]any
	raw     strings.Builder
}

// start runs the binary with the environment and ends it with the test. That
// it ends well, and without a data race, is part of every test.
func start(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.changed = sync.NewCond(&p.mu)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GORACE=halt_on_error=1 atexit_sleep_ms=0"}, env...)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.read(out)
		p.err = p.cmd.Wait()
		p.mu.Lock()
		close(p.done)
		p.changed.Broadcast()
		p.mu.Unlock()
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGCONT)
		p.stop()
		if t.Failed() {
			t.Logf("--- %s said:\n%s", p.name, p.output())
		}
	})
	return p
}

func (p *process) read(out io.Reader) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line map[string]any
		p.mu.Lock()
		p.raw.WriteString(scanner.Text() + "\n")
		if json.Unmarshal(scanner.Bytes(), &line) == nil {
			p.lines = append(p.lines, line)
		}
		p.changed.Broadcast()
		p.mu.Unlock()
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raw.String()
}

// await waits for the n-th log line, counted from 1, with the message and the
// attributes.
func (p *process) await(n int, msg string, attrs ...any) map[string]any {
	p.t.Helper()
	timer := time.AfterFunc(patience, func() { p.mu.Lock(); p.changed.Broadcast(); p.mu.Unlock() })
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		found := 0
		for _, line := range p.lines {
			if matches(line, msg, attrs) {
				if found++; found == n {
					return line
				}
			}
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s ended (%v) without saying %q %v:\n%s", p.name, p.err, msg, attrs, p.raw.String())
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s never said %q %v:\n%s", p.name, msg, attrs, p.raw.String())
		}
		p.changed.Wait()
	}
}

func matches(line map[string]any, msg string, attrs []any) bool {
	if line["msg"] != msg {
		return false
	}
	for i := 0; i < len(attrs); i += 2 {
		if fmt.Sprint(line[attrs[i].(string)]) != fmt.Sprint(attrs[i+1]) {
			return false
		}
	}
	return true
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process the hard way and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// forgive has a process that has ended badly, as it should, count as ended well.
func (p *process) forgive() {
	<-p.done
	p.err = nil
}

// stop asks the process to end and checks that it ends well, unless it was killed.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s does not end", p.name)
		p.kill()
	}
	exit, failed := errors.AsType[*exec.ExitError](p.err)
	if failed && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return
	}
	if failed || strings.Contains(p.output(), "DATA RACE") {
		p.t.Errorf("%s ended badly (%v):\n%s", p.name, p.err, p.output())
	}
}

// freePort returns a port that nothing listens on now. It is below those that the
// kernel gives to connections, so that none takes it before it is used, or while
// what listened there is away.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.N(12_000)
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// redisServer is a real redis-server on a port of its own.
type redisServer struct {
	t    testing.TB
	port int
	cmd  *exec.Cmd
}

func startRedis(t testing.TB) *redisServer {
	t.Helper()
	need(t, "redis-server")
	r := &redisServer{t: t, port: freePort(t)}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }
func (r *redisServer) url() string  { return "redis://" + r.addr() }

func (r *redisServer) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", "--port", fmt.Sprint(r.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.addr())
		if err == nil {
			_ = conn.Close()
			return
		}
		if ctx.Err() != nil {
			r.t.Fatal("redis-server does not listen")
		}
		time.Sleep(5 * time.Millisecond) // it tells no one when it listens
	}
}

func (r *redisServer) kill() {
	if r.cmd.ProcessState == nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
}

// awaitKey waits until Redis has the key.
func awaitKey(t *testing.T, server *redisServer, key string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.addr()})
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		n, err := client.Exists(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis never has %q", key)
		}
	}
}

// awaitGone waits until Redis has no key of the pattern.
func awaitGone(t *testing.T, server *redisServer, pattern string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server.addr()})
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left, err := client.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Redis keeps %q", left)
		}
	}
}
