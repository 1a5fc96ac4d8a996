package clients

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/voxedge/voxedge/middleware"
)

func aKey(l middleware.Limits) middleware.Subject {
	return middleware.Subject{Kind: "key", Name: "app", Limits: l}
}

// runLimiter returns a limiter of one edge.
func runLimiter(t *testing.T, r *redisServer) *Limiter {
	t.Helper()
	l := NewLimiter(r.client(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// Two edges share what a key may have; a place that is given back is another's.
func TestLimitsHoldOverAllEdges(t *testing.T) {
	r := startRedis(t)
	a, b := runLimiter(t, r), runLimiter(t, r)
	s := aKey(middleware.Limits{Connections: 2})
	first, denied := a.Enter(t.Context(), s, false)
	if denied != nil {
		t.Fatal(denied)
	}
	if _, denied := b.Enter(t.Context(), s, false); denied != nil {
		t.Fatal(denied)
	}
	for _, edge := range []*Limiter{a, b} {
		if _, denied := edge.Enter(t.Context(), s, false); denied == nil || denied.RetryAfter <= 0 {
			t.Errorf("a third place of two: %+v", denied)
		}
	}
	replacing, denied := b.Enter(t.Context(), s, true)
	if denied != nil {
		t.Fatalf("one that replaces another: %+v", denied)
	}
	replacing.Close()
	b.work.Wait()
	first.Close()
	first.Close() // twice is once
	a.work.Wait()
	if _, denied := b.Enter(t.Context(), s, false); denied != nil {
		t.Errorf("a place that was given back: %+v", denied)
	}
}

func TestRatesHoldOverAllEdges(t *testing.T) {
	r := startRedis(t)
	a, b := runLimiter(t, r), runLimiter(t, r)
	s := aKey(middleware.Limits{Characters: 100, Audio: 3})
	atA, _ := a.Enter(t.Context(), s, false)
	atB, _ := b.Enter(t.Context(), s, false)
	if problem := atA.Text(t.Context(), 60); problem != nil {
		t.Fatal(problem)
	}
	if problem := atB.Text(t.Context(), 60); problem == nil || problem.Code != "RATE_LIMITED" {
		t.Errorf("120 characters of 100: %v", problem)
	}
	if problem := atB.Text(t.Context(), 40); problem != nil {
		t.Errorf("100 characters of 100: %v", problem)
	}
	if problem := atA.Spoken(5 * time.Second); problem == nil || problem.Code != "RATE_LIMITED" {
		t.Errorf("five seconds of three: %v", problem)
	}
	for began := time.Now(); atB.Text(t.Context(), 0) == nil; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the day's audio is used up, and more is spoken")
		}
	}
	if problem := atB.Spoken(200 * time.Millisecond); problem == nil {
		t.Error("the other edge knows that the day is used up, and speaks on")
	}
}

// Those who speak at once do not get the day each, and what is left goes to the
// millisecond.
func TestADayIsSharedByAllWhoSpeak(t *testing.T) {
	r := startRedis(t)
	log := slog.New(slog.DiscardHandler)
	a, b := NewLimiter(r.client(), log), NewLimiter(r.client(), log)
	s := aKey(middleware.Limits{Audio: 5})
	const part = 200 * time.Millisecond
	heard := time.Duration(0)
	for i := range 20 {
		l := []*Limiter{a, b}[i%2]
		p, _ := l.Enter(t.Context(), s, false)
		if p.Text(t.Context(), 1) != nil {
			continue
		}
		for range 100 {
			heard += part
			if p.Spoken(part) != nil {
				break
			}
		}
		l.settle(t.Context())
	}
	if heard < 5*time.Second || heard > 5*time.Second+2*part {
		t.Errorf("%s of five seconds were heard", heard)
	}
}

// Without Redis each edge holds the limits by itself.
func TestLimitsHoldWithoutRedis(t *testing.T) {
	r := startRedis(t)
	gone := runLimiter(t, r)
	r.kill()
	for name, l := range map[string]*Limiter{"never there": NewLimiter(nil, slog.New(slog.DiscardHandler)), "gone": gone} {
		t.Run(name, func(t *testing.T) {
			s := aKey(middleware.Limits{Connections: 1, Connects: 3, Characters: 10})
			p, denied := l.Enter(t.Context(), s, false)
			if denied != nil {
				t.Fatal(denied)
			}
			if _, denied := l.Enter(t.Context(), s, false); denied == nil {
				t.Error("a second place of one")
			}
			if problem := p.Text(t.Context(), 11); problem == nil || !strings.Contains(problem.Resolution, "in parts") {
				t.Errorf("eleven characters at once of ten a minute: %v", problem)
			}
			if problem := p.Text(t.Context(), 10); problem != nil {
				t.Errorf("ten of ten: %v", problem)
			}
			if problem := p.Text(t.Context(), 1); problem == nil {
				t.Error("eleven characters of ten")
			}
			p.Close()
			if _, denied := l.Enter(t.Context(), s, false); denied != nil {
				t.Errorf("a place that was given back: %+v", denied)
			}
			for i := range 4 {
				if denied := l.Count(t.Context(), s, middleware.Connects); (denied != nil) != (i == 3) || i == 3 && denied.RetryAfter <= 0 {
					t.Errorf("connect %d of three: %+v", i+1, denied)
				}
			}
			if denied := l.Count(t.Context(), s, middleware.Tickets); denied != nil {
				t.Errorf("tickets are counted by themselves: %+v", denied)
			}
		})
	}
}

// A Redis that hangs costs one time-out, not one for each text, and is asked
// again by itself; what was spoken meanwhile is told then.
func TestARedisThatHangsIsWaitedForOnce(t *testing.T) {
	r := startRedis(t)
	if r.mini != nil {
		t.Skip("an imitation does not hang")
	}
	l, other := runLimiter(t, r), NewLimiter(r.client(), slog.New(slog.DiscardHandler))
	s := aKey(middleware.Limits{Connections: 9, Connects: 100, Characters: 1000, Audio: 5})
	p, _ := l.Enter(t.Context(), s, false)
	elsewhere, _ := other.Enter(t.Context(), s, false)
	signal := func(sig syscall.Signal) {
		if err := r.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	began := time.Now()
	for range 20 {
		if problem := p.Text(t.Context(), 10); problem != nil {
			t.Fatal(problem)
		}
		if denied := l.Count(t.Context(), s, middleware.Connects); denied != nil {
			t.Fatal(denied)
		}
	}
	if took := time.Since(began); took > 20*limitTimeout { // and not forty times, as if each had waited
		t.Errorf("twenty texts took %s", took)
	}
	if problem := p.Spoken(6 * time.Second); problem == nil {
		t.Error("six seconds of five")
	}
	signal(syscall.SIGCONT)
	for began := time.Now(); elsewhere.Text(t.Context(), 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the other edge was never told of what was spoken")
		}
	}
}

// A client that goes away while it is asked for is no sign that Redis has.
func TestAClientThatGoesIsNotRedisThatIsAway(t *testing.T) {
	r := startRedis(t)
	l := NewLimiter(r.client(), slog.New(slog.DiscardHandler))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	l.Count(gone, aKey(middleware.Limits{Connects: 5}), middleware.Connects)
	if !l.askable() {
		t.Error("Redis is thought to be away")
	}
}
