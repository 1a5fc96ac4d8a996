package session

import "time"

// An utterance that is so far behind is in pieces already, since frames come too slowly:
// from the worker, or through a machine with more than it can do. Longer pieces are no
// worse to hear, and that machine has less to do.
const (
	farBehind    = 5 * FrameDuration
	longestPiece = 10 * FrameDuration
)

// heldBack reports whether what is queued waits for more to leave with, and when to look
// again. So it does in an utterance that is in pieces: while there is no room for one in the
// client's lead, and then until it is one, or has waited for as long, or is the last.
func (s *Session) heldBack(now time.Time) (next time.Time, held bool) {
	if !s.inPieces() {
		return time.Time{}, false
	}
	piece := s.piece(now)
	if room := s.pace.due().Add(piece - FrameDuration); room.After(now) {
		return room, true
	}
	since := s.hub.began.Add(s.queue.front().queued)
	wait := piece - now.Sub(since)
	held = wait > 0 && s.queued() < piece && since.After(s.released) && !s.queue.at(s.queue.n-1).end()
	return now.Add(min(wait, FrameDuration)), held // not later: nothing moves it forward
}

// inPieces reports whether the utterance that is heard leaves in pieces, as it does from
// when it is far behind until it has caught up.
func (s *Session) inPieces() bool {
	return !s.pace.unpaced && s.utterances[0].sound.behind >= farBehind
}

// caughtUp reports whether the client has its lead; where there was less for long, its worker
// must be well ahead, too.
func (s *Session) caughtUp(now time.Time) bool {
	return s.pace.due().After(now) && (!s.inPieces() || !s.queue.half())
}

// piece is how much leaves at once: half of the lead. A client that has nothing left waits
// for as much as the lead: with less it would soon have nothing once more.
func (s *Session) piece(now time.Time) time.Duration {
	most := min(s.pace.lead, longestPiece)
	if s.pace.dry(now) {
		return most
	}
	return most / 2
}

func (s *Session) queued() time.Duration { return time.Duration(s.queue.n) * FrameDuration }
