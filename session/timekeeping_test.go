package session

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFramesAreGatheredWhileSlotsAreServedLate(t *testing.T) {
	var k timekeeping
	var at time.Duration
	for _, step := range []struct {
		what        string
		looks, late int
		want        time.Duration
	}{
		{"in time", 5, 0, 0},
		{"as many late as may be", 5, tooManyLate, 0},
		{"all late, once", 1, lookSlots, 0},
		{"as many as may be once more", 2, tooManyLate, 0},
		{"one more, twice", 2, tooManyLate + 1, FrameDuration},
		{"fewer, but not few", 5, fewLate, FrameDuration},
		{"all late, three times", 3, lookSlots, 3 * FrameDuration},
		{"all late, for long", 9, lookSlots, longestGather},
		{"few, once", 1, fewLate - 1, longestGather - FrameDuration},
		{"none, for long", 9, 0, 0},
		{"all late, for long once more", 9, lookSlots, longestGather},
	} {
		for range step.looks {
			for i := range lookSlots {
				at += clockGrain
				k.slot(at, (i+1)%lookSlots < step.late) // the last begins the next look
			}
		}
		if got := k.gathers(); got != step.want {
			t.Errorf("%s: frames are gathered for %s, want %s", step.what, got, step.want)
		}
	}
	k.slot(at+time.Hour, false)
	if got := k.gathers(); got != 0 {
		t.Errorf("after an hour without a slot frames are gathered for %s", got)
	}
}

// A slot is late when it is served after the next has begun, for a session that is in it.
func TestWhichSlotsAreLate(t *testing.T) {
	for _, test := range []struct {
		after time.Duration // its own time
		empty bool
		want  time.Duration
	}{
		{clockGrain, false, 0},
		{clockGrain + 1, false, FrameDuration},
		{time.Second, true, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := opened(t, roomy, fiveFrames{})
			c := &clock{start: time.Now(), together: 1}
			for slot := int64(1); slot <= 2*lookSlots; slot++ {
				if !test.empty {
					s.due = time.Duration(slot) * clockGrain
					c.place(s)
				}
				c.serve(slot, c.start.Add(time.Duration(slot)*clockGrain+test.after))
				c.cursor = slot
			}
			if got := c.timekeeping.gathers(); got != test.want {
				t.Errorf("slots served %s after their time, empty: %t: frames are gathered for %s, want %s", test.after, test.empty, got, test.want)
			}
		})
	}
}

// The frames of a session leave as many together as its clock has gathered, and one by one
// when it keeps time once more. Their client has at least half of its lead.
func TestGatheredFramesLeaveTogether(t *testing.T) {
	for _, test := range []struct {
		gather time.Duration
		lead   int // frames
		want   string
	}{
		{0, 10, "1"},
		{FrameDuration, 10, "2 1"},
		{longestGather, 10, "5 4 3 2 1"},
		{longestGather, 6, "3 2 1"},
		{longestGather, 5, "2 1"},
		{longestGather, 3, "1"},
		{longestGather, 2, "1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := roomy
			cfg.PacingLead = time.Duration(test.lead) * FrameDuration
			const frames = uint64(lookSlots * clockGrain / FrameDuration * 6)
			s, w := opened(t, cfg, &voices{next: []voice{{pauses: make([]time.Duration, frames)}}})
			s.clock.timekeeping.gather.Store(int64(test.gather))
			s.Receive([]byte(`{"type":"text","text":"speak"}`))
			if got, _, _ := strings.Cut(test.want, " "); fmt.Sprint(s.hub.FramesTogether()) != got {
				t.Errorf("gathered for %s, with a lead of %d frames: %d are said to leave together, want %s", test.gather, test.lead, s.hub.FramesTogether(), got)
			}
			time.Sleep(time.Duration(frames) * FrameDuration) // of synctest's clock: all is spoken
			synctest.Wait()
			if s.hub.FramesTogether() != 1 {
				t.Errorf("when all is spoken %d are said to leave together", s.hub.FramesTogether())
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			var sizes []string
			for _, left := range w.left[1 : len(w.left)-1] { // but for the lead and the rest
				if size := fmt.Sprint(left.frames); len(sizes) == 0 || sizes[len(sizes)-1] != size {
					sizes = append(sizes, size)
				}
			}
			if got := strings.Join(sizes, " "); got != test.want {
				t.Errorf("gathered for %s, with a lead of %d frames: so many left together: %s, want %s", test.gather, test.lead, got, test.want)
			}
			if s.story.underruns > 0 || s.sequence != frames {
				t.Errorf("%d frames left and the client ran dry %d times", s.sequence, s.story.underruns)
			}
		})
	}
}

// A clock with nothing to do soon gathers nothing.
func TestIdleClockGathersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := opened(t, roomy, fiveFrames{})
		s.clock.timekeeping.gather.Store(int64(longestGather))
		s.Receive([]byte(`{"type":"text","text":"five"}`))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := s.clock.timekeeping.gathers(); got != 0 {
			t.Errorf("ten seconds after all was spoken frames are gathered for %s", got)
		}
	})
}
