package clients

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/proto"
)

// known returns a worker as the router sees it, without a connection.
func known(name string, state workerState) *Worker {
	w := &Worker{Name: name}
	w.state.Store(&state)
	return w
}

func capable(languages ...string) workerState {
	return workerState{caps: &proto.Capabilities{Languages: languages}}
}

func limited(to int32) workerState {
	return workerState{caps: &proto.Capabilities{MaxConcurrentSessions: to}}
}

func listing(models ...string) workerState {
	s := workerState{models: []*proto.ModelInfo{}}
	for _, m := range models {
		s.models = append(s.models, &proto.ModelInfo{ModelId: m})
	}
	return s
}

func TestWhoFits(t *testing.T) {
	busy := func(w *Worker, sessions int64) *Worker {
		w.sessions.Store(sessions)
		return w
	}
	residentOnly := workerState{resident: []string{"x"}, models: []*proto.ModelInfo{}}
	tests := []struct {
		name string
		w    *Worker
		need want
		why  string // empty: it fits
	}{
		{"nothing is known of it", known("w", workerState{}), want{model: "x", language: "de"}, ""},
		{"not healthy", known("w", workerState{err: errors.New("it reports NOT_SERVING")}), want{}, "not healthy (it reports NOT_SERVING)"},
		{"not checked", known("w", workerState{err: errUnchecked}), want{}, "not healthy (not checked yet)"},
		{"no limit", busy(known("w", limited(0)), 1000), want{}, ""},
		{"one place left", busy(known("w", limited(8)), 7), want{}, ""},
		{"full", busy(known("w", limited(8)), 8), want{}, "full"},
		{"no language asked for", known("w", capable("de")), want{}, ""},
		{"the language", known("w", capable("en", "de")), want{language: "de"}, ""},
		{"the language in a region", known("w", capable("en-US")), want{language: "en-GB"}, ""},
		{"the language as a locale", known("w", capable("en_US")), want{language: "en"}, ""},
		{"the language in capitals", known("w", capable("EN")), want{language: "en"}, ""},
		{"another language", known("w", capable("en", "de")), want{language: "fr"}, `without the language "fr"`},
		{"a language that begins alike", known("w", capable("en")), want{language: "enm"}, `without the language "enm"`},
		{"the model", known("w", listing("x", "y")), want{model: "y"}, ""},
		{"a model that is resident but not listed", known("w", residentOnly), want{model: "x"}, ""},
		{"another model", known("w", listing("x", "y")), want{model: "z"}, `without the model "z"`},
		{"an empty list of models", known("w", listing()), want{model: "z"}, `without the model "z"`},
		{"no model asked for", known("w", listing("x")), want{}, ""},
		{"a preferred model only", known("w", listing("x")), want{prefer: "z"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if why, _ := tt.w.unfit(tt.need); why != tt.why {
				t.Errorf("it is unfit because %q, want %q", why, tt.why)
			}
			w, err := new(router).pick([]*Worker{tt.w}, tt.need)
			switch {
			case tt.why == "" && (err != nil || w != tt.w):
				t.Errorf("it is not picked: %v", err)
			case tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("the error is %v, want that it says %q", err, tt.why)
			}
		})
	}
}

func TestThatNoWorkerFitsIsExplained(t *testing.T) {
	full := known("full", limited(1))
	full.sessions.Store(1)
	resting := known("resting", workerState{})
	resting.breaker.failed(time.Now())
	workers := []*Worker{
		known("ill", workerState{err: errors.New("it is ill")}), full, resting, known("foreign", capable("fr")), known("foreign too", capable("fr", "it")),
	}
	_, err := new(router).pick(workers, want{language: "de"})
	if err == nil {
		t.Fatal("one was picked")
	}
	for _, reason := range []string{"of 5 known workers", "1 not healthy (it is ill)", "1 full", "1 resting", `2 without the language "de"`} {
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("%q does not say %q", err, reason)
		}
	}
}

// tally picks many times and counts.
func tally(t *testing.T, r *router, workers []*Worker, need want) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range 600 {
		w, err := r.pick(workers, need)
		if err != nil {
			t.Fatal(err)
		}
		counts[w.Name]++
	}
	return counts
}

func three(configure func(i int, w *Worker)) []*Worker {
	var all []*Worker
	for i := range 3 {
		w := known(fmt.Sprint("w", i), workerState{})
		if configure != nil {
			configure(i, w)
		}
		all = append(all, w)
	}
	return all
}

func TestStrategies(t *testing.T) {
	loaded := func(i int, w *Worker) { w.streams.Store(int64(10 * i)) }
	queued := func(i int, w *Worker) {
		w.state.Store(&workerState{metrics: map[string]float64{"queue_depth": float64(10 * i)}})
	}
	slower := func(i int, w *Worker) { w.latency.Store(int64(i+1) * int64(time.Millisecond)) }
	tests := []struct {
		name     string
		strategy Strategy
		workers  []*Worker
		right    func(counts map[string]int) bool
	}{
		{"round robin is even", RoundRobin, three(nil), func(n map[string]int) bool { return n["w0"] == 200 && n["w1"] == 200 && n["w2"] == 200 }},
		{"round robin does not look at the load", RoundRobin, three(loaded), func(n map[string]int) bool { return n["w2"] == 200 }},
		{"least latency", LeastLatency, three(slower), func(n map[string]int) bool { return n["w0"] == 600 }},
		{"least latency tries one that has not spoken", LeastLatency, three(func(i int, w *Worker) {
			if i != 2 {
				slower(i, w)
			}
		}), func(n map[string]int) bool { return n["w2"] == 600 }},
		{"the less loaded of two", LeastLoaded, three(loaded)[:2], func(n map[string]int) bool { return n["w0"] == 600 }},
		{"the less queued of two", LeastLoaded, three(queued)[1:], func(n map[string]int) bool { return n["w1"] == 600 }},
		{"the most loaded of three is never the better of two", LeastLoaded, three(loaded),
			func(n map[string]int) bool { return n["w2"] == 0 && n["w0"] > n["w1"] && n["w1"] > 0 }},
		{"equal loads are shared", LeastLoaded, three(nil), func(n map[string]int) bool { return n["w0"] > 100 && n["w1"] > 100 && n["w2"] > 100 }},
		{"one is enough", LeastLoaded, three(nil)[:1], func(n map[string]int) bool { return n["w0"] == 600 }},
		{"random reaches all, whatever their load", Random, three(loaded), func(n map[string]int) bool { return n["w0"] > 100 && n["w1"] > 100 && n["w2"] > 100 }},
		{"without a strategy it is the load", "", three(loaded)[:2], func(n map[string]int) bool { return n["w0"] == 600 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if counts := tally(t, &router{strategy: tt.strategy}, tt.workers, want{}); !tt.right(counts) {
				t.Errorf("of 600 picks: %v", counts)
			}
		})
	}
}

// A queue depth that makes no sense must not draw all sessions to its worker.
func TestANegativeQueueDepthCountsAsNone(t *testing.T) {
	w := known("w", workerState{metrics: map[string]float64{"queue_depth": -5}})
	w.streams.Store(3)
	if load := w.load(); load != 3 {
		t.Errorf("the load is %g, want 3", load)
	}
}

func TestResidentBeforeLoadable(t *testing.T) {
	for _, strategy := range Strategies {
		t.Run(string(strategy), func(t *testing.T) {
			workers := three(func(i int, w *Worker) {
				if i == 1 {
					w.state.Store(&workerState{resident: []string{"x"}})
					w.streams.Store(50)
					w.latency.Store(int64(time.Second))
				}
			})
			if counts := tally(t, &router{strategy: strategy}, workers, want{prefer: "x"}); counts["w1"] != 600 {
				t.Errorf("of 600 picks: %v, want the one that has the model", counts)
			}
			workers[1].state.Store(&workerState{err: errUnchecked})
			if counts := tally(t, &router{strategy: strategy}, workers, want{prefer: "x"}); counts["w1"] != 0 {
				t.Errorf("of 600 picks: %v, though it is not healthy", counts)
			}
		})
	}
}

func TestAvoidedOnlyAsALastResort(t *testing.T) {
	workers := three(nil)
	workers[0].state.Store(&workerState{resident: []string{"x"}}) // even that is no reason
	avoid := map[*Worker]bool{workers[0]: true, workers[1]: true}
	if counts := tally(t, &router{}, workers, want{prefer: "x", avoid: avoid}); counts["w2"] != 600 {
		t.Errorf("of 600 picks: %v, want the one that is not avoided", counts)
	}
	avoid[workers[2]] = true
	if counts := tally(t, &router{}, workers, want{avoid: avoid}); len(counts) != 3 {
		t.Errorf("of 600 picks: %v, want all when all are avoided", counts)
	}
}

func TestARestingWorkerIsLeftOut(t *testing.T) {
	workers := three(nil)
	began := time.Now()
	workers[0].breaker.failed(began)
	fit, err := fitting(workers, want{}, began)
	if err != nil || len(fit) != 2 || fit[0] != workers[1] || fit[1] != workers[2] {
		t.Errorf("%d fit, %v; want the two that do not rest", len(fit), err)
	}
	for _, w := range workers[1:] {
		w.breaker.failed(began)
	}
	_, err = fitting(workers, want{}, began)
	none, ok := errors.AsType[*noWorker](err)
	if !ok {
		t.Fatalf("the error is %v", err)
	}
	soonest := min(workers[0].breaker.rest(began), workers[1].breaker.rest(began), workers[2].breaker.rest(began))
	if none.rest != soonest {
		t.Errorf("one is back in %s, want %s", none.rest, soonest)
	}
	if fit, _ := fitting(workers, want{}, began.Add(soonest)); len(fit) != 1 {
		t.Errorf("%d fit after the first rest, want one", len(fit))
	}
}

func TestTheFirstFramesLatencyIsAMovingAverage(t *testing.T) {
	w := known("w", workerState{})
	w.firstFrame(80 * time.Millisecond)
	if got := time.Duration(w.latency.Load()); got != 80*time.Millisecond {
		t.Errorf("after the first it is %s", got)
	}
	w.firstFrame(160 * time.Millisecond)
	if got := time.Duration(w.latency.Load()); got != 90*time.Millisecond {
		t.Errorf("after the second it is %s, want 90ms", got)
	}
}
