package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Report is all that was measured.
type Report struct {
	At      time.Time `json:"at"`
	Machine string    `json:"machine"`
	Window  string    `json:"window"`
	Rounds  int       `json:"rounds"`
	Results []Result  `json:"results"`
	Idle    Idle      `json:"idle"`
}

// thisMachine says what it runs on.
func thisMachine() string {
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}

// Table is the report in Markdown.
func (r *Report) Table() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s; %d rounds of %s each, %s.\n\n", r.Machine, r.Rounds, r.Window, r.At.Format("2006-01-02"))
	if len(r.Results) > 0 {
		b.WriteString("| | sessions | CPU a frame, edge | bare relay | **ratio** (of the rounds) | late p50 / p99 / p99.9, edge | bare relay | pace kept, edge / relay | cores busy, edge / relay | memory each, edge | bare relay |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	}
	for _, m := range r.Results {
		late, relayLate, pace := "", "", ""
		if m.Edge.Pace > 0 {
			late, relayLate, pace = three(m.Edge.Lateness), three(m.Relay.Lateness), both(m.Edge.Pace, m.Relay.Pace)
		}
		fmt.Fprintf(&b, "| %s | %d | %.1f µs | %.1f µs | **%.2f**%s | %s | %s | %s | %s | %s | %s |\n",
			m.Scenario, m.Sessions, m.Edge.CPU, m.Relay.CPU, m.Ratio, m.scatter(), late, relayLate, pace, both(m.Edge.Busy, m.Relay.Busy), m.memory(m.Edge), m.memory(m.Relay))
	}
	for _, m := range r.Results {
		if m.Edge.Latency != nil {
			fmt.Fprintf(&b, "\nFrom the making of a frame to its arrival, %s, %d sessions (p50 / p99 / p99.9): edge %s, bare relay %s.\n",
				m.Scenario, m.Sessions, three(m.Edge.Latency), three(m.Relay.Latency))
		}
	}
	if r.Idle.Connections == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\n%d idle connections: %.1f KB each and %.1f %% of a core for all, beside %.1f %% with none; bare relay %.1f KB and %.1f %%.\n",
		r.Idle.Connections, float64(r.Idle.EdgeBytes)/1024, r.Idle.EdgeCPU, r.Idle.EdgeAlone, float64(r.Idle.RelayBytes)/1024, r.Idle.RelayCPU)
	return b.String()
}

// scatter is between which ratios those of the rounds lie.
func (r *Result) scatter() string {
	if len(r.RoundRatios) < 2 {
		return ""
	}
	return fmt.Sprintf(" (%.2f to %.2f)", slices.Min(r.RoundRatios), slices.Max(r.RoundRatios))
}

// memory of one session, where there are enough of them to tell.
func (r *Result) memory(m Measure) string {
	if r.Sessions < 50 {
		return ""
	}
	return fmt.Sprintf("%d KB", m.Memory>>10)
}

func both(edge, relay float64) string { return fmt.Sprintf("%.0f / %.0f %%", 100*edge, 100*relay) }

func three(q Quantiles) string {
	return fmt.Sprintf("%.1f / %.1f / %.1f ms", q.At(50), q.At(99), q.At(99.9))
}
