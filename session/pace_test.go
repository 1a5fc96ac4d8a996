package session

import (
	"math/rand/v2"
	"testing"
	"time"
)

const lead = 200 * time.Millisecond

// simulate sends all frames that are due at each of the wake-ups and returns
// when each left.
func simulate(p *pace, wakeups []time.Time, frames int) (left []time.Time) {
	for _, now := range wakeups {
		for len(left) < frames && !p.due().After(now) {
			p.sent(now)
			left = append(left, now)
		}
	}
	return left
}

func every(start time.Time, step time.Duration, n int) (times []time.Time) {
	for i := range n {
		times = append(times, start.Add(time.Duration(i)*step))
	}
	return times
}

func TestPaceSendsTheLeadAtOnceThenAFrameEvery20ms(t *testing.T) {
	start := time.Now()
	p := newPace(Realtime, lead, FrameDuration)
	left := simulate(&p, every(start, time.Millisecond, 1000), 40)
	for i, at := range left {
		want := start.Add(max(0, time.Duration(i+1)*FrameDuration-lead))
		if !at.Equal(want) {
			t.Fatalf("frame %d left at %s, want %s", i, at.Sub(start), want.Sub(start))
		}
	}
}

func TestPaceDoesNotDriftInAnHour(t *testing.T) {
	start := time.Now()
	p := newPace(Realtime, lead, FrameDuration)
	frames := int(time.Hour / FrameDuration)
	// A clock that always wakes up late, by up to 7 ms.
	var wakeups []time.Time
	for at := start; at.Before(start.Add(time.Hour)); at = at.Add(5 * time.Millisecond) {
		wakeups = append(wakeups, at.Add(rand.N(2*time.Millisecond)))
	}
	left := simulate(&p, wakeups, frames)
	if len(left) != frames {
		t.Fatalf("%d frames left in an hour, want %d", len(left), frames)
	}
	want := start.Add(time.Hour - lead)
	if off := left[frames-1].Sub(want); off < -2*time.Millisecond || off > 10*time.Millisecond {
		t.Errorf("the last frame left %s off the schedule", off)
	}
}

// Whatever the wake-ups, the client is never sent more than the lead ahead of
// what it has had the time to play.
func TestPaceNeverBreaksTheLead(t *testing.T) {
	for range 200 {
		start := time.Now()
		p := newPace(Realtime, lead, FrameDuration)
		var wakeups []time.Time
		for at := start; at.Before(start.Add(20 * time.Second)); at = at.Add(rand.N(600 * time.Millisecond)) {
			wakeups = append(wakeups, at)
		}
		left := simulate(&p, wakeups, 1<<30)
		playedAt := start // of all that was sent
		for i, at := range left {
			if playedAt.Before(at) {
				playedAt = at
			}
			playedAt = playedAt.Add(FrameDuration)
			if ahead := playedAt.Sub(at); ahead > lead {
				t.Fatalf("frame %d put the client %s ahead", i, ahead)
			}
		}
	}
}

func TestPaceCatchesUpAfterALateWakeUp(t *testing.T) {
	start := time.Now()
	p := newPace(Realtime, lead, FrameDuration)
	simulate(&p, []time.Time{start}, 1<<30)
	late := simulate(&p, []time.Time{start.Add(100 * time.Millisecond)}, 1<<30)
	if len(late) != 5 {
		t.Errorf("%d frames left after 100 ms, want 5", len(late))
	}
}

func TestPaceStartsAnewWhenTheClientHasRunDry(t *testing.T) {
	start := time.Now()
	p := newPace(Realtime, lead, FrameDuration)
	simulate(&p, []time.Time{start}, 10)
	after := simulate(&p, []time.Time{start.Add(time.Minute)}, 1<<30)
	if len(after) != 10 {
		t.Errorf("%d frames left at once after a minute, want the lead: 10", len(after))
	}
}

func TestPaceGivesTheLeadAgainAfterAStop(t *testing.T) {
	start := time.Now()
	p := newPace(Realtime, lead, FrameDuration)
	simulate(&p, []time.Time{start}, 10)
	p.restart()
	if after := simulate(&p, []time.Time{start.Add(FrameDuration)}, 1<<30); len(after) != 10 {
		t.Errorf("%d frames left at once after STOP, want the lead: 10", len(after))
	}
}

func TestAFrameMayWaitOnceTheClientHasItsLead(t *testing.T) {
	start := time.Now()
	p := newPace(Unpaced, lead, FrameDuration)
	for i := range 12 {
		if ahead := p.ahead(start); ahead != (i >= 10) {
			t.Errorf("after %d frames: ahead is %v", i, ahead)
		}
		p.sent(start)
	}
	if p.ahead(start.Add(3 * FrameDuration)) {
		t.Error("still ahead after it has played three frames of twelve")
	}
}

func TestUnpacedNeverWaits(t *testing.T) {
	p := newPace(Unpaced, lead, FrameDuration)
	if n := len(simulate(&p, []time.Time{time.Now()}, 1000)); n != 1000 {
		t.Errorf("%d frames left at once, want all 1000", n)
	}
}
