package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Five hundred sessions speak for half a minute while the collector is away for
// five seconds of it: every span of every frame arrives. The clients and the
// collector are a program of their own; see its comment.
func TestNoSpanIsLost(t *testing.T) {
	args := []string{"-sessions=500", "-characters=500", "-after=10s", "-away=5s"}
	if testing.Short() {
		args = []string{"-sessions=50", "-characters=75", "-after=1s", "-away=1s"}
	}
	s := startFastSystem(t)
	check := startTracecheck(t, args...)
	otlp := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + check.next(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}
	worker := s.worker("w1", otlp...)
	edge, url := s.edge(append(otlp, "MAX_CONNECTIONS=1000")...)
	edge.await(1, "worker is healthy")
	check.tell(url)
	t.Log(check.next())
	edge.stop() // it sends what is left
	worker.stop()
	check.tell("ended")
	if verdict := check.next(); verdict != "nothing is missing" {
		t.Error(verdict)
		for check.out.Scan() {
			t.Error(check.out.Text())
		}
	}
	if strings.Contains(edge.output(), "traces are missing") {
		t.Error("the edge says that spans are missing")
	}
}

// tracecheck is the running program.
type tracecheck struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

func startTracecheck(t *testing.T, args ...string) *tracecheck {
	t.Helper()
	path := filepath.Join(filepath.Dir(binary), "tracecheck")
	if out, err := exec.Command("go", "build", "-o", path, "./tracecheck").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	trouble := &strings.Builder{}
	cmd.Stderr = trouble
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("tracecheck: %v: %s", err, trouble)
		}
	})
	return &tracecheck{t, in, bufio.NewScanner(out)}
}

// next is the next line it prints.
func (c *tracecheck) next() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatal("tracecheck has ended")
	}
	return c.out.Text()
}

func (c *tracecheck) tell(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
}
