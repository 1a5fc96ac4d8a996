package e2e

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// BenchmarkAttack weighs what an attack does to those who listen: a hundred
// paced sessions speak, first in peace, which is the reference, then while the
// edge is attacked. Lateness is against the pacing, by the edge's own count; a
// gap is a client that had played all it was sent.
//
//	go test -run '^$' -bench Attack -benchtime 3x ./e2e
func BenchmarkAttack(b *testing.B) {
	const sessions = 100
	for _, name := range slices.Sorted(maps.Keys(attacks)) {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			s := startFastSystem(b)
			s.worker("w1")
			edge, url := s.edge("MAX_CONNECTIONS=1000", "MAX_HANDSHAKES=150", "HANDSHAKE_TIMEOUT=2s")
			edge.await(1, "worker is healthy")
			listeners := make([]*listener, sessions)
			for i := range listeners {
				listeners[i] = listen(b, "", url)
			}
			speak := func() map[string]float64 {
				before := edge.metrics(b)
				var listening sync.WaitGroup
				for _, l := range listeners {
					l.say(paragraph[:80]) // five seconds
					listening.Go(func() { l.expectEnd(l.hear(1), 80) })
				}
				listening.Wait()
				after := edge.metrics(b)
				for name := range after {
					after[name] -= before[name]
				}
				return after
			}
			var peace, war [2]float64
			var gaps float64
			for b.Loop() {
				m := speak()
				peace[0], peace[1] = peace[0]+lateness(b, m, 0.5), peace[1]+lateness(b, m, 0.99)
				stop := startAttack(b, name, strings.TrimPrefix(url, "ws://"))
				m = speak()
				stop()
				war[0], war[1] = war[0]+lateness(b, m, 0.5), war[1]+lateness(b, m, 0.99)
				gaps += m["voxedge_utterance_underruns_total"]
			}
			for i, quantile := range []string{"p50", "p99"} {
				b.ReportMetric(war[i]/float64(b.N)*1000, "attacked-"+quantile+"-ms")
				b.ReportMetric(war[i]/peace[i], quantile+"-ratio")
			}
			b.ReportMetric(gaps, "gaps")
			b.ReportMetric(0, "ns/op") // it says nothing here
		})
	}
}

// lateness is a quantile, in seconds, of the histogram in m.
func lateness(b *testing.B, m map[string]float64, quantile float64) float64 {
	b.Helper()
	const name = `voxedge_frame_lateness_seconds_bucket{le="`
	counts := map[float64]float64{} // of frames not later than the bound
	for key, n := range m {
		if rest, ok := strings.CutPrefix(key, name); ok {
			bound, err := strconv.ParseFloat(strings.TrimSuffix(rest, `"}`), 64)
			if err != nil {
				b.Fatal(err)
			}
			counts[bound] = n
		}
	}
	bounds := slices.Sorted(maps.Keys(counts))
	if len(bounds) == 0 || counts[bounds[len(bounds)-1]] == 0 {
		b.Fatal("no frame was counted")
	}
	wanted := quantile * counts[bounds[len(bounds)-1]]
	low, below := 0.0, 0.0
	for _, bound := range bounds[:len(bounds)-1] { // the last is infinite
		if counts[bound] >= wanted {
			return low + (bound-low)*(wanted-below)/(counts[bound]-below)
		}
		low, below = bound, counts[bound]
	}
	return low
}
