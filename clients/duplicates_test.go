package clients

import (
	"slices"
	"testing"

	"google.golang.org/grpc/connectivity"

	"github.com/voxedge/voxedge/session"
)

// The same name and address more than once is one worker.
func TestOneWorkerNamedTwice(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdgeAt(t, poolConfig(), Static{w.announcement(), w.announcement()})
	e.workers = []*ttsWorker{w}
	e.until("it is healthy", func() bool { healthy, known := e.pool.Workers(); return healthy > 0 && healthy == known })
	if _, known := e.pool.Workers(); known != 1 {
		t.Errorf("%d workers are known, want one", known)
	}
	e.hearTone(e.session("s", session.Params{}), "text")
	checkLooks(t, e)
}

// Two keys whose values have the same name are a mistake, but one that must not
// cost a connection at each look.
func TestTwoWorkersOfOneName(t *testing.T) {
	a, b := startWorker(t, "same", nil), startWorker(t, "same", nil)
	e := startEdgeAt(t, poolConfig(), Static{a.announcement(), b.announcement()})
	e.workers = []*ttsWorker{a, b}
	e.until("one is healthy", func() bool { healthy, _ := e.pool.Workers(); return healthy > 0 })
	checkLooks(t, e)
}

// checkLooks wants a look at the same registry to change nothing, and every
// connection to be closed with the edge.
func checkLooks(t *testing.T, e *edge) {
	t.Helper()
	before := *e.pool.workers.Load()
	made := map[*Worker]bool{}
	for range 3 {
		e.pool.refresh(e.ctx, "")
		for _, w := range append(slices.Clone(before), *e.pool.workers.Load()...) {
			made[w] = true
		}
	}
	if after := *e.pool.workers.Load(); !slices.Equal(before, after) {
		t.Errorf("looks at the same registry changed the workers: %d were made for %d", len(made), len(before))
	}
	e.close()
	for w := range made {
		if w.conn.GetState() != connectivity.Shutdown {
			t.Errorf("a connection to worker %s at %s was left open", w.Name, w.Addr)
			w.close() // the leak is told of here, and need not fail other tests
		}
	}
}
