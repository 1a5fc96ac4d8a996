package session

import "time"

// Pacing is how fast a session's frames leave.
type Pacing string

// The pacings a client may ask for.
const (
	Realtime Pacing = "realtime" // the lead at once, then a frame every 20 ms
	Unpaced  Pacing = "none"     // as fast as the client reads
)

// MaxPacingInterval is the longest Config.PacingInterval.
const MaxPacingInterval = 3 * FrameDuration

// pace says when the next frame may leave so that the client is never more
// than lead ahead of what it plays. It keeps the time at which all that was
// sent will have been played; that time advances by exactly one frame a frame,
// so nothing drifts, and a late wake-up finds several frames due but never
// more than fill the lead. When the client has run dry the schedule starts
// anew, and so does the lead.
type pace struct {
	unpaced  bool          // a frame may leave at any time
	gather   time.Duration // that a frame waits for those it leaves with
	lead     time.Duration
	playedAt time.Time // when the client will have played all it was sent
}

func newPace(p Pacing, lead, interval time.Duration) pace {
	return pace{unpaced: p == Unpaced, lead: max(lead, FrameDuration), gather: max(interval-FrameDuration, 0)}
}

// due returns when the next frame may leave; the zero time is at once.
func (p *pace) due() time.Time {
	if p.unpaced || p.playedAt.IsZero() {
		return time.Time{}
	}
	return p.playedAt.Add(FrameDuration - p.lead)
}

// dueAfter returns when the frame may leave that has so many before it, if those
// leave at now.
func (p *pace) dueAfter(frames int, now time.Time) time.Time {
	if frames == 0 || p.unpaced {
		return p.due()
	}
	played := p.playedAt
	if played.Before(now) {
		played = now
	}
	return played.Add(time.Duration(frames+1)*FrameDuration - p.lead)
}

// gathers returns how long a frame that is due waits for those it leaves with: longer where
// the clock has it wait, but not until more than half of the lead is due.
func (p *pace) gathers(clock time.Duration) time.Duration {
	return max(p.gather, min(clock, (p.lead/2).Truncate(FrameDuration)-FrameDuration))
}

// wake returns when to look again for a frame that is not due yet: when as many
// are due as leave at once.
func (p *pace) wake(clock time.Duration) time.Time { return p.due().Add(p.gathers(clock)) }

// dry reports whether the client has played all it was sent.
func (p *pace) dry(now time.Time) bool { return !p.playedAt.After(now) }

// ahead reports whether the client has its lead, so that a frame may wait.
func (p *pace) ahead(now time.Time) bool { return p.playedAt.Sub(now) >= p.lead }

// restart begins the schedule anew: a client that said STOP has dropped what it
// had not played, and needs the lead again.
func (p *pace) restart() { p.playedAt = time.Time{} }

// sent takes note that a frame left at now. When the client had run dry it
// returns since when, else the zero time.
func (p *pace) sent(now time.Time) (dry time.Time) {
	if p.playedAt.Before(now) {
		if !p.unpaced {
			dry = p.playedAt
		}
		p.playedAt = now
	}
	p.playedAt = p.playedAt.Add(FrameDuration)
	return dry
}
