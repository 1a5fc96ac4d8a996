package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/doctor"
)

var update = flag.Bool("update", false, "write the table of faults")

const faultTable = "../docs/runbooks/faults.md"

// fault is one thing that goes wrong, and the only verdict on it that is right.
type fault struct {
	what   string
	cause  doctor.Cause
	inject func(s *scene)
	mend   func(s *scene) // does what the resolution says
}

// scene is an edge as a client meets it, and the doctor's way to it.
type scene struct {
	*testing.T
	url  string   // that the doctor is given
	args []string // and besides
	env  []string

	redis  *redisServer
	port   int // of the edge
	health int
	work   *process // the worker
	served *process // the edge
	leave  func()   // ends what keeps the edge or a worker busy
}

// around starts a Redis and, unless it is to be left out, a worker.
func (s *scene) around(workers ...string) {
	s.redis = startRedis(s.T)
	for _, name := range workers {
		s.work = s.worker(name)
	}
}

func (s *scene) worker(name string, env ...string) *process {
	p := start(s.T, "worker "+name, append([]string{
		"WORKER_HOST=127.0.0.1", "WORKER_PORT=0", "WORKER_ENGINE=tone", "WORKER_NAME=" + name, "REDIS_URL=" + s.redis.url(),
	}, env...), "worker")
	p.await(1, "worker announced")
	return p
}

// edge starts one on the scene's ports, and has the doctor look at it.
func (s *scene) edge(env ...string) *process {
	if s.port == 0 {
		s.port, s.health = freePort(s.T), freePort(s.T)
		s.env = append(s.env, "RUN_DIR="+s.TempDir())
	}
	if s.redis != nil {
		env = append([]string{"REDIS_URL=" + s.redis.url()}, env...)
	}
	p := start(s.T, "edge", append([]string{
		"HOST=127.0.0.1", fmt.Sprint("PORT=", s.port), "HEALTH_HOST=127.0.0.1", fmt.Sprint("HEALTH_PORT=", s.health), "WORKER_REFRESH_INTERVAL=500ms", s.env[len(s.env)-1],
	}, env...), "serve")
	p.await(1, "listening")
	s.url = fmt.Sprintf("ws://127.0.0.1:%d/v1/stream", s.port)
	s.served = p
	return p
}

// whole is an edge that is well.
func (s *scene) whole(env ...string) {
	s.around("w1")
	s.edge(env...).await(1, "worker is healthy")
}

// ask runs the doctor.
func (s *scene) ask(more ...string) (r doctor.Report, exit int) {
	s.Helper()
	args := []string{"doctor", "--json"}
	if s.url != "" {
		args = append(args, s.url)
	}
	cmd := exec.Command(binary, append(append(args, s.args...), more...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, s.env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, _ := cmd.Output()
	if err := json.Unmarshal(out, &r); err != nil {
		s.Fatalf("the doctor said %q %q", out, &complaints)
	}
	return r, cmd.ProcessState.ExitCode()
}

func TestFaultMatrix(t *testing.T) {
	for _, f := range faults {
		t.Run(strings.ReplaceAll(f.what, "/", " "), func(t *testing.T) {
			s := &scene{T: t}
			f.inject(s)
			got, exit := s.ask()
			if got.Cause != f.cause.ID || exit != f.cause.Status || got.Status != exit {
				t.Fatalf("the verdict is %s, exit status %d; want %s, %d\n%s", got.Cause, exit, f.cause.ID, f.cause.Status, show(got))
			}
			last := got.Steps[len(got.Steps)-1]
			for _, step := range got.Steps {
				if step.Result == doctor.Failed {
					last = step
				}
			}
			if last.Evidence == "" || last.Resolution == "" || strings.ContainsAny(last.Resolution, "{}") || last.Runbook == "" {
				t.Errorf("no evidence or resolution: %+v", last.Finding)
			}
			f.mend(s)
			if got, exit := s.ask("--wait", "30s"); !got.OK || exit != 0 {
				t.Errorf("mended, and the doctor is not content: exit status %d\n%s", exit, show(got))
			}
		})
	}
}

func show(r doctor.Report) string {
	var b strings.Builder
	r.Print(&b)
	return b.String()
}

// Without a URL the doctor looks where the environment has the edge listen.
func TestTheDoctorNeedsNoURL(t *testing.T) {
	s := &scene{T: t}
	cert, key, authority := certificate{name: "voice.example"}.files(t, t.TempDir())
	s.port, s.health = freePort(t), freePort(t)
	env := []string{"HOST=127.0.0.2", fmt.Sprint("PORT=", s.port), "HEALTH_HOST=127.0.0.3", fmt.Sprint("HEALTH_PORT=", s.health), "TLS_CERT_FILE=" + cert, "TLS_KEY_FILE=" + key}
	s.around("w1")
	s.env = []string{"RUN_DIR=" + t.TempDir()}
	s.edge(env...).await(1, "worker is healthy")
	s.url = ""
	s.env = append(env, "SSL_CERT_FILE="+authority, "SSL_CERT_DIR=/nowhere")
	got, exit := s.ask()
	if exit != 0 || !strings.Contains(show(got), fmt.Sprintf("http://127.0.0.3:%d/health", s.health)) {
		t.Errorf("exit status %d\n%s", exit, show(got))
	}
	check := exec.Command(binary, "healthcheck")
	check.Env = env
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}
}

// Many dead workers before the one that is well are no reason to blame it.
func TestTheLastOfManyWorkersIsWell(t *testing.T) {
	s := &scene{T: t}
	s.around()
	for i := range 40 {
		s.tellRedis("SET", fmt.Sprintf("worker:dead%02d", i), fmt.Sprintf(`{"name":"dead%02d","addr":"grpc://127.0.0.1:1"}`, i))
	}
	s.worker("well")
	s.edge().await(1, "worker is healthy")
	got, exit := s.ask()
	if exit != 0 || !strings.Contains(show(got), "41 are announced, 41 were looked at, and 1 are well") {
		t.Errorf("exit status %d\n%s", exit, show(got))
	}
}

// Two seconds there and back are slow, and not silence.
func TestASlowNetworkIsNotSilence(t *testing.T) {
	s := &scene{T: t}
	s.whole()
	p := startToxiproxy(t).to("edge", fmt.Sprintf("127.0.0.1:%d", s.port))
	p.poison("latency", "downstream", map[string]any{"latency": 2000})
	s.url = "ws://" + p.addr + "/v1/stream"
	if got, exit := s.ask(); exit == doctor.Silent.Status || exit == doctor.NoSessionStart.Status {
		t.Errorf("exit status %d\n%s", exit, show(got))
	}
}

// Who watches is told of what changes, and when, and of nothing else.
func TestWatchTellsOfChangesAlone(t *testing.T) {
	s := &scene{T: t}
	s.whole()
	p := start(t, "doctor", s.env, "doctor", "--watch", s.url)
	said := func(part string, times int) {
		t.Helper()
		for deadline := time.Now().Add(patience); strings.Count(p.output(), part) < times; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it never said %q %d times:\n%s", part, times, p.output())
			}
		}
	}
	said("All is well", 1)
	s.served.await(4, "session opened") // a look each, of other milliseconds
	s.served.stop()
	said(doctor.PortClosed.Title, 1)
	p.kill()
	if out := p.output(); strings.Count(out, "All is well") != 1 || strings.Count(out, "— "+time.Now().Format("2006-")) != strings.Count(out, " url ") {
		t.Errorf("it said:\n%s", out)
	}
}

// TestNoFalseAlarm has an edge that is well looked at again and again.
func TestNoFalseAlarm(t *testing.T) {
	s := &scene{T: t}
	s.whole()
	runs := 200
	if testing.Short() {
		runs = 10
	}
	for i := range runs {
		if got, exit := s.ask(); !got.OK || exit != 0 {
			t.Fatalf("run %d: exit status %d\n%s", i+1, exit, show(got))
		}
	}
}

// The table in the documents is the one that is tested.
func TestFaultTableIsDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Faults and verdicts\n\nEach of these is injected into real processes by `TestFaultMatrix`, which holds the\n" +
		"doctor's verdict against this table, does what the resolution says, and asks again.\n\n| fault | verdict | exit status |\n|---|---|---|\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "| %s | [`%s`](%s#%s) | %d |\n", f.what, f.cause.ID, f.cause.Runbook, f.cause.ID, f.cause.Status)
	}
	if *update {
		if err := os.WriteFile(faultTable, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(faultTable)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Error("docs/runbooks/faults.md is not what is tested: run go test ./e2e -run FaultTable -update")
	}
	if len(faults) < 30 {
		t.Errorf("only %d faults", len(faults))
	}
}

// listener listens at a port of this process and handles each connection.
func (s *scene) listener(port int, handle func(net.Conn)) (addr string, stop func()) {
	s.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		s.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.Cleanup(func() { _ = conn.Close() })
			go handle(conn)
		}
	}()
	stop = func() { _ = ln.Close(); <-done }
	s.Cleanup(stop)
	return ln.Addr().String(), stop
}
