package bench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func readResults(t *testing.T) *Report {
	t.Helper()
	data, err := os.ReadFile("../docs/performance/results.json")
	if err != nil {
		t.Fatal(err)
	}
	r := &Report{}
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// What docs/performance.md says is what was measured.
func TestTheDocumentShowsTheResults(t *testing.T) {
	document, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), readResults(t).Table()) {
		t.Error("docs/performance.md does not have the table of docs/performance/results.json: put docs/performance/table.md in")
	}
}

func TestPlotsAreSVG(t *testing.T) {
	r := readResults(t)
	for name, plot := range map[string]func(io.Writer) error{"cost": r.PlotCost, "latency": r.PlotLatency} {
		var b bytes.Buffer
		if err := plot(&b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := 0
		for d := xml.NewDecoder(&b); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "path" {
				lines++
			}
		}
		if lines < 2 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var sorted []time.Duration
	for i := range 1000 {
		sorted = append(sorted, time.Duration(i)*time.Millisecond)
	}
	q := quantiles(sorted)
	if q.At(0) != 0 || q.At(50) != 500 || q.At(99) != 990 || q.At(99.9) != 999 {
		t.Errorf("%v", q)
	}
	if q := quantiles(nil); q != nil {
		t.Errorf("of nothing: %v", q)
	}
}
