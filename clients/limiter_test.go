package clients

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/middleware"
)

func keyOf(l middleware.Limits) middleware.Subject {
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
	s := keyOf(middleware.Limits{Connections: 2})
	first, denied := a.Connect(t.Context(), s)
	if denied != nil {
		t.Fatal(denied)
	}
	if _, denied := b.Connect(t.Context(), s); denied != nil {
		t.Fatal(denied)
	}
	for _, edge := range []*Limiter{a, b} {
		if _, denied := edge.Connect(t.Context(), s); denied == nil || denied.RetryAfter <= 0 {
			t.Errorf("a third place of two: %+v", denied)
		}
	}
	first.Close()
	first.Close() // twice is once
	a.work.Wait()
	if _, denied := b.Connect(t.Context(), s); denied != nil {
		t.Errorf("a place that was given back: %+v", denied)
	}
}

func TestRatesHoldOverAllEdges(t *testing.T) {
	r := startRedis(t)
	a, b := runLimiter(t, r), runLimiter(t, r)
	s := keyOf(middleware.Limits{Characters: 100, Audio: 3})
	atA, _ := a.Connect(t.Context(), s)
	atB, _ := b.Connect(t.Context(), s)
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
	s := keyOf(middleware.Limits{Audio: 5})
	const part = 200 * time.Millisecond
	heard := time.Duration(0)
	for i := range 20 {
		l := []*Limiter{a, b}[i%2]
		p, _ := l.Connect(t.Context(), s)
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
			s := keyOf(middleware.Limits{Connections: 1, Connects: 3, Characters: 10})
			p, denied := l.Connect(t.Context(), s)
			if denied != nil {
				t.Fatal(denied)
			}
			if _, denied := l.Connect(t.Context(), s); denied == nil {
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
			if _, denied := l.Connect(t.Context(), s); denied != nil {
				t.Errorf("a place that was given back: %+v", denied)
			}
			if _, denied := l.Connect(t.Context(), s); denied == nil || denied.RetryAfter <= 0 {
				t.Errorf("a fourth connect of three: %+v", denied)
			}
		})
	}
}
