package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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
