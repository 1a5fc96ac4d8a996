package session

import "time"

// An utterance that is so far behind is in pieces already, since frames come too slowly:
// from the worker, or through a machine with more than it can do. Longer pieces are no
// worse to hear, and that machine has less to do. With so many frames queued it has caught
// up, or with half of a shorter queue.
const (
	farBehind    = 5 * FrameDuration
	longestPiece = 10 * FrameDuration
	wellAhead    = 25
)

// heldBack reports whether what is queued waits for more to leave with, and when to look
// again. So it does in an utterance that is in pieces: while there is no room for one in the
// client's lead, and then until it is one, or has waited for as long, or no more comes: for it
// is the last, or the speaker rests.
func (s *Session) heldBack(now time.Time) (next time.Time, held bool) {
	if !s.inPieces() || s.textWasLate(now) {
		return time.Time{}, false
	}
	piece := s.piece(now)
	if room := s.pace.due().Add(piece - FrameDuration); room.After(now) {
		return room, true
	}
	since := s.hub.began.Add(s.queue.front().queued)
	wait := piece - now.Sub(since)
	held = wait > 0 && s.queued() < piece && since.After(s.released) && !s.spokenOut() && !s.queue.rests()
	return now.Add(min(wait, FrameDuration)), held // not later: nothing moves it forward
}

// textWasLate reports whether the client has nothing left because its text came so late.
func (s *Session) textWasLate(now time.Time) bool {
	return s.pace.dry(now) && !s.pace.playedAt.After(s.utterances[0].script.Added())
}

// spokenOut reports whether all of the utterance that is heard is queued.
func (s *Session) spokenOut() bool {
	return s.queue.at(s.queue.n-1).end() || len(s.utterances)-s.unspoken > 1
}

// inPieces reports whether the utterance that is heard leaves in pieces, as it does from
// when it is far behind until it has caught up.
func (s *Session) inPieces() bool {
	return !s.pace.unpaced && s.utterances[0].sound.behind >= farBehind
}

// caughtUp reports whether the client has its lead; where there was less for long, its worker
// must be well ahead, too.
func (s *Session) caughtUp(now time.Time) bool {
	return s.pace.due().After(now) && (!s.inPieces() || s.queue.n > min(wellAhead, s.queue.pool.length/2))
}

// piece is how much leaves at once. A client that has nothing left waits for twice as much:
// with less it would soon have nothing once more.
func (s *Session) piece(now time.Time) time.Duration {
	most := min(s.pace.lead, longestPiece)
	if s.pace.dry(now) {
		return most
	}
	return most / 2
}

func (s *Session) queued() time.Duration { return time.Duration(s.queue.n) * FrameDuration }
