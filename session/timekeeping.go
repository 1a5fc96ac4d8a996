package session

import (
	"sync/atomic"
	"time"
)

// timekeeping is whether a clock serves its slots in time, and what follows from that.
// While a machine has more to do than it can, frames that are due wait for the next, and
// leave with them: that costs a third less for two, and half for five. So the edge gives
// up a punctuality that nobody hears, where it would fall behind, which all would.
type timekeeping struct {
	gather atomic.Int64 // how long a frame that is due waits for others: a time.Duration
	// Only the clock's goroutine has these.
	look int64 // the current one, counted from the clock's start
	late int   // slots served late in it
	busy bool  // too many were in the one before
}

// A clock that keeps time serves one slot in a hundred late; one that has too much to do,
// one in four.
const (
	lookSlots     = 256
	lookTime      = lookSlots * clockGrain
	tooManyLate   = lookSlots / 8
	fewLate       = lookSlots / 32
	longestGather = longestPiece/2 - FrameDuration
)

// slot takes note of a slot that is served so long after the clock's start, and whether that
// is late for a session.
func (t *timekeeping) slot(at time.Duration, late bool) {
	look := int64(at / lookTime)
	for t.look = max(t.look, look-int64(longestGather/FrameDuration)-1); t.look < look; t.look++ {
		tooMany := t.late > tooManyLate
		switch {
		case tooMany && t.busy: // once may be something that held up all
			t.gather.Store(int64(min(t.gathers()+FrameDuration, longestGather)))
		case t.late < fewLate:
			t.gather.Store(int64(max(t.gathers()-FrameDuration, 0)))
		}
		t.busy, t.late = tooMany, 0
	}
	if late {
		t.late++
	}
}

// gathers returns how long a frame that is due waits for others.
func (t *timekeeping) gathers() time.Duration { return time.Duration(t.gather.Load()) }

// FramesTogether returns how many frames of a session leave at once, where the most do: as
// many as PacingInterval says, and more while the hub's clocks do not keep time.
func (h *Hub) FramesTogether() int {
	p := newPace(Realtime, h.cfg.PacingLead, h.cfg.PacingInterval)
	var most time.Duration
	for _, c := range h.clocks.all {
		most = max(most, c.timekeeping.gathers())
	}
	return 1 + int(p.gathers(most)/FrameDuration)
}
