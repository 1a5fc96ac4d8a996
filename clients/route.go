package clients

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/voxedge/voxedge/proto"
)

// Strategy is how one of several fitting workers is chosen.
type Strategy string

// The routing strategies.
const (
	LeastLoaded  Strategy = "least_loaded"
	LeastLatency Strategy = "least_latency"
	RoundRobin   Strategy = "round_robin"
	Random       Strategy = "random"
)

// Strategies are all of them, the default first.
var Strategies = []Strategy{LeastLoaded, LeastLatency, RoundRobin, Random}

// want is what a session needs of a worker. Workers to avoid are taken only
// when no other is left.
type want struct {
	model    string // it must have this model, unless empty
	prefer   string // it had better have this one resident
	language string
	avoid    map[*Worker]bool
	refused  map[*Worker]bool // those that do not want it
}

// noWorker says why no worker fits.
type noWorker struct {
	why     string
	rest    time.Duration // when positive, one that only rests will be back by then, or it will be known of more whether they fit
	lacking string        // what the client asks for and none of those that are well has, or empty
}

func (e *noWorker) Error() string { return e.why }

type router struct {
	strategy Strategy
	turn     atomic.Uint64
}

// pick chooses among the workers, or says for each why not.
func (r *router) pick(workers []*Worker, need want) (*Worker, error) {
	now := time.Now()
	for {
		fit, why := fitting(workers, need, now)
		if len(fit) == 0 {
			return nil, why
		}
		w := r.choose(fit)
		if w.breaker.allow(now) {
			return w, nil
		}
		// Another session has just taken the one try that a worker is given after
		// its rest, so it rests again: choose anew.
		now = time.Now()
	}
}

// checkedSoon is when to look again for workers that were not looked up, or not
// checked, so far: an edge that has just started knows of none.
const checkedSoon = 10 * time.Millisecond

// fitting returns the best tier of workers: those not avoided before those
// avoided, and those that have the model resident before those that can load it.
func fitting(workers []*Worker, need want, now time.Time) ([]*Worker, error) {
	var fresh, avoided []*Worker
	none := &noWorker{}
	reasons := map[string]int{}
	able := 0 // or would be, were they not busy or resting
	for _, w := range workers {
		unchecked := errors.Is(w.state.Load().err, errUnchecked) // before unfit looks: it may be checked meanwhile
		reason, lacking := w.unfit(need)
		if lacking != "" {
			none.lacking = lacking
		} else if w.state.Load().err == nil {
			able++
		}
		switch {
		case reason != "" && unchecked:
			reasons[reason]++
			none.wait(checkedSoon)
		case reason != "":
			reasons[reason]++
		case need.refused[w]:
			reasons["unwilling"]++
		case w.breaker.rest(now) > 0:
			reasons["resting after a failure"]++
			none.wait(w.breaker.rest(now))
		case need.avoid[w]:
			avoided = append(avoided, w)
		default:
			fresh = append(fresh, w)
		}
	}
	fit := fresh
	if len(fit) == 0 {
		fit = avoided
	}
	if len(fit) == 0 {
		if able > 0 {
			none.lacking = ""
		}
		none.explain(len(workers), reasons)
		return nil, none
	}
	if need.prefer != "" {
		if resident := slices.DeleteFunc(slices.Clone(fit), func(w *Worker) bool { return !w.hasResident(need.prefer) }); len(resident) > 0 {
			fit = resident
		}
	}
	return fit, nil
}

func (e *noWorker) wait(rest time.Duration) {
	if e.rest == 0 || rest < e.rest {
		e.rest = rest
	}
}

func (e *noWorker) explain(known int, reasons map[string]int) {
	if known == 0 {
		e.why = "no worker is known"
		return
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		parts = append(parts, fmt.Sprintf("%d %s", reasons[reason], reason))
	}
	e.why = fmt.Sprintf("of %d known workers, %s", known, strings.Join(parts, ", "))
}

// unfit says why the worker cannot take the session, or is empty, and what it
// has not that the client asks for.
func (w *Worker) unfit(need want) (reason, lacking string) {
	state := w.state.Load()
	switch {
	case state.err != nil:
		return "not healthy (" + state.err.Error() + ")", ""
	case !state.speaks(need.language):
		lacking = fmt.Sprintf("the language %.40q", need.language)
	case !state.knows(need.model):
		lacking = fmt.Sprintf("the model %.40q", need.model)
	}
	if lacking != "" {
		return "without " + lacking, lacking
	}
	if limit := int64(state.caps.GetMaxConcurrentSessions()); limit > 0 && w.sessions.Load() >= limit {
		return "full", ""
	}
	return "", ""
}

// speaks compares primary subtags: en, en-US and en_GB are one language here.
func (s *workerState) speaks(language string) bool {
	if language == "" || len(s.caps.GetLanguages()) == 0 {
		return true
	}
	return slices.ContainsFunc(s.caps.GetLanguages(), func(l string) bool {
		return strings.EqualFold(primarySubtag(l), primarySubtag(language))
	})
}

func primarySubtag(tag string) string {
	if i := strings.IndexAny(tag, "-_"); i > 0 {
		return tag[:i]
	}
	return tag
}

// knows takes a worker at its word where it lists its models, and otherwise
// lets it answer to StartSession.
func (s *workerState) knows(model string) bool {
	return model == "" || s.models == nil || s.has(model)
}

// has reports whether the worker says that it has the model.
func (s *workerState) has(model string) bool {
	return slices.Contains(s.resident, model) ||
		slices.ContainsFunc(s.models, func(m *proto.ModelInfo) bool { return m.GetModelId() == model })
}

func (w *Worker) hasResident(model string) bool {
	return slices.Contains(w.state.Load().resident, model)
}

func (r *router) choose(fit []*Worker) *Worker {
	switch r.strategy {
	case LeastLoaded:
		return lighter(fit)
	case RoundRobin:
		return fit[r.turn.Add(1)%uint64(len(fit))]
	case Random:
		return fit[rand.N(len(fit))]
	case LeastLatency:
		return slices.MinFunc(fit, func(a, b *Worker) int { return int(a.latency.Load() - b.latency.Load()) })
	}
	return lighter(fit)
}

// lighter is the power of two choices: of two taken at random the less loaded.
// Unlike the least loaded of all, it does not send every edge to the same worker.
func lighter(fit []*Worker) *Worker {
	i := rand.N(len(fit))
	if len(fit) == 1 {
		return fit[i]
	}
	j := rand.N(len(fit) - 1)
	if j >= i {
		j++
	}
	if fit[j].load() < fit[i].load() {
		return fit[j]
	}
	return fit[i]
}
