package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/voxedge/voxedge/bench"
)

// The whole of voxedge bench, small: real edges, workers and relays.
func TestBenchMeasuresEverything(t *testing.T) {
	withoutRaceDetector(t)
	dir := t.TempDir()
	out, err := exec.Command(binary, "bench", "--sessions", "2,5", "--window", "700ms", "--rounds", "1", "--idle", "10", "--out", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report bench.Report
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 3*2+3 || report.Idle.EdgeBytes <= 0 || report.Idle.RelayBytes <= 0 {
		t.Fatalf("%s", data)
	}
	for _, r := range report.Results {
		if r.Edge.CPU <= 0 || r.Relay.CPU <= 0 || r.Ratio <= 0 || r.WorkerCPU <= 0 || r.Edge.Rate <= 0 || r.Relay.Rate <= 0 || r.MessageBytes < 1936 {
			t.Errorf("%+v", r)
		}
	}
	for _, name := range []string{"table.md", "cost.svg", "latency.svg"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A measurement that ends early shows what it has.
func TestBenchThatIsInterrupted(t *testing.T) {
	bench := exec.Command(binary, "bench", "--sessions", "2", "--window", "300ms", "--rounds", "1", "--only", "paced")
	var table bytes.Buffer
	bench.Stdout = &table
	progress, err := bench.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(progress)
	if !said.Scan() {
		t.Fatal("it says nothing of the first scenario")
	}
	if err := bench.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var last string
	for said.Scan() {
		last += said.Text() + "\n"
	}
	if err := bench.Wait(); err == nil || !strings.Contains(last, "interrupted") {
		t.Errorf("it ends with %v and says %q", err, last)
	}
	if !strings.Contains(table.String(), "| paced, JSON | 2 |") {
		t.Errorf("the first scenario is lost: %q", table.String())
	}
}
