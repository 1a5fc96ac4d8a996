package clients

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/voxedge/voxedge/session"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestAWorkerThatNeverFailedMayBeAsked(t *testing.T) {
	var b breaker
	for range 3 {
		if !b.allow(noon) || b.rest(noon) != 0 {
			t.Fatal("it rests")
		}
	}
}

func TestAFailureBringsARestAndThenOneTry(t *testing.T) {
	var b breaker
	b.failed(noon)
	rest := b.rest(noon)
	if rest < 100*time.Millisecond || rest > 301*time.Millisecond {
		t.Fatalf("it rests for %s", rest)
	}
	if b.allow(noon.Add(rest - 1)) {
		t.Error("it may be asked while it rests")
	}
	end := noon.Add(rest)
	if b.rest(end) != 0 || !b.allow(end) {
		t.Fatal("it may not be asked after its rest")
	}
	if b.allow(end) {
		t.Error("a second caller may ask before the first has done")
	}
	if b.rest(end) == 0 {
		t.Error("it does not rest for others while one tries")
	}
}

func TestRestsGrowUpToALimit(t *testing.T) {
	var b breaker
	now := noon
	for want := 200 * time.Millisecond; ; want *= 2 {
		b.failed(now)
		rest := b.rest(now)
		limited := min(want, 30*time.Second)
		if rest < limited/2 || rest > limited*3/2+1 {
			t.Fatalf("it rests for %s, want about %s", rest, limited)
		}
		if now = now.Add(rest); want > time.Hour {
			return
		}
	}
}

// The sessions of a worker that dies all report it.
func TestFailuresTogetherAreOne(t *testing.T) {
	var b breaker
	b.failed(noon)
	rest := b.rest(noon)
	for range 100 {
		b.failed(noon.Add(rest / 2))
	}
	if got := b.rest(noon); got != rest {
		t.Errorf("it rests for %s after 101 failures at once, want the %s of one", got, rest)
	}
}

func TestASuccessEndsTheRest(t *testing.T) {
	var b breaker
	now := noon
	for range 10 {
		b.failed(now)
		now = now.Add(b.rest(now))
	}
	b.failed(now)
	b.succeeded()
	first, second := b.allow(now), b.allow(now)
	if !first || !second || b.rest(now) != 0 {
		t.Error("it still rests")
	}
	b.failed(now)
	if rest := b.rest(now); rest > 301*time.Millisecond {
		t.Errorf("the first rest after a success is %s", rest)
	}
}

func TestOneOfManyCallersMayTry(t *testing.T) {
	var b breaker
	b.failed(noon)
	end := noon.Add(b.rest(noon))
	var allowed atomic.Int64
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if b.allow(end) {
				allowed.Add(1)
			}
		})
	}
	callers.Wait()
	if n := allowed.Load(); n != 1 {
		t.Errorf("%d callers may try, want 1", n)
	}
}

// Ten sessions want to speak when the only worker has failed and is well again.
// An utterance can be long: that one goes well must show at its first frame, not
// at its last, or the others are turned away.
func TestAWorkerThatIsWellAgainIsOpenToAll(t *testing.T) {
	e := startEdge(t, poolConfig(), startWorker(t, "a", nil))
	e.worker("a").breaker.failed(time.Now())
	hold := make(chan struct{}) // no utterance ends before all have begun
	var speeches []*speech
	var begins []<-chan struct{}
	for i := range 10 {
		sp, began := e.start(e.session(fmt.Sprint("s", i), session.Params{}), script("text"), hold)
		speeches, begins = append(speeches, sp), append(begins, began)
	}
	for i, began := range begins {
		select {
		case <-began:
		case err := <-speeches[i].done:
			t.Fatalf("a session was turned away while the worker speaks: %v", err)
		case <-e.ctx.Done():
			t.Fatal("a session never began")
		}
	}
	close(hold)
	for _, sp := range speeches {
		if err := await(t, "the end", sp.done); err != nil {
			t.Fatal(err)
		}
		checkTone(t, sp.frames, toneHz, 0, framesOf("text"))
	}
}
