package session

import (
	"errors"
	"time"
)

var errUtteranceOver = errors.New("the utterance is over")

// speak has the accepted utterances spoken one after another, and leaves when
// there is none. It runs in a goroutine of its own, at most one a session.
func (s *Session) speak() {
	defer s.guard()
	for {
		u := s.nextUnspoken()
		if u == nil {
			return
		}
		skip := s.skip
		err := s.speakOne(u)
		_ = s.charge(skip - s.skip) // a worker has spoken it once more; what comes next is told
		s.enqueueEnd(u, skip-s.skip, err)
	}
}

func (s *Session) speakOne(u *utterance) error {
	if problem := s.charge(0); problem != nil {
		return problem
	}
	return s.speaker.Speak(u.ctx, u.script, u.from, &s.skip, func(f Frame) error { return s.enqueue(u, f) })
}

func (s *Session) nextUnspoken() *utterance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unspoken == 0 {
		s.speaking = false
		return nil
	}
	u := s.utterances[len(s.utterances)-s.unspoken]
	s.unspoken--
	if s.noSkip {
		s.skip, s.noSkip = 0, false
	}
	u.first = s.position + 1 - u.from.Frames
	s.changed()
	return u
}

// enqueue puts a frame in the queue, and waits for room when it is full: the
// worker's stream is not read meanwhile, and flow control holds the worker. It also
// waits when frames come one by one although there are some to go on with: those that
// come meanwhile are then read together, where a wake-up for each costs twice as much.
func (s *Session) enqueue(u *utterance, f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.comesAlone(u, f) {
		s.queue.restHalf()
		s.rest(u)
	}
	if err := s.awaitRoom(u); err != nil {
		return err
	}
	now := time.Now()
	e := s.queue.pushFrame(f, s.binary)
	e.received, e.queued = f.Received.Sub(s.hub.began), now.Sub(s.hub.began)
	if u.spans != nil {
		e.parent = u.spans.Parent(f.Traceparent)
	}
	s.position++
	if u.pass(f.Place) && e.queued-s.story.saved >= placeSave {
		s.changed()
	}
	u.asked = e.queued
	s.deliverQueued(u, now)
	return nil
}

// enoughToRest is with how many frames queued a speaker that had to wait for the next lets
// others come.
const enoughToRest = 5

// comesAlone reports whether the worker's stream had nothing more to read when it was asked
// for f, and that can wait: another utterance would have to, and a piece waits for f.
func (s *Session) comesAlone(u *utterance, f Frame) bool {
	return s.queue.n >= enoughToRest && !s.pace.unpaced && s.unspoken == 0 && (!s.inPieces() || s.queued() >= s.piece(f.Received)) &&
		u.asked > 0 && f.Received.Sub(s.hub.began) >= u.asked+clockGrain
}

// placeSave is how old what the journal has may get for a place that is not in it: to
// begin at an earlier one is no more than slower.
const placeSave = time.Second

// enqueueEnd puts the end of the utterance behind its frames, of which so many
// were skipped because the client has them.
func (s *Session) enqueueEnd(u *utterance, skipped uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaitRoom(u) != nil {
		return
	}
	s.position += skipped
	if err != nil && s.skip > 0 { // it failed within what the client has: what is spoken next is all new
		s.position, s.skip = s.sequence, 0
	}
	u.last, u.err = s.position, err
	s.queue.pushEnd()
	s.deliver(time.Now())
}

// deliverQueued delivers a frame that was just queued, if nothing waits before it
// that it will go with. The first of an utterance leaves at once; those behind it go
// with those of other sessions, where many come, or in pieces when the utterance is far
// behind. Without pacing, frames for a client that has its lead are gathered, for a
// frame's time or until there are many: one write then does for all. The lock is held.
func (s *Session) deliverQueued(u *utterance, now time.Time) {
	switch {
	case s.inPieces():
		if !s.scheduled {
			s.deliver(now)
		}
	case !s.pace.unpaced && s.queue.n > 1:
	case !s.pace.unpaced && u.frames > 0 && !s.scheduled:
		if end, crowded := s.clock.crowd(now); crowded {
			s.deliverAt(end)
		} else {
			s.deliver(now)
		}
	case s.pace.unpaced && s.queue.half() && s.pace.ahead(now):
		s.deliverAt(now.Add(FrameDuration))
	default:
		s.deliver(now)
	}
}

// deliverAt has the clock deliver, unless it will before.
func (s *Session) deliverAt(due time.Time) {
	if !s.scheduled {
		s.scheduled, s.due = true, due.Sub(s.clock.start)
		s.clock.add(s)
	}
}

func (s *Session) awaitRoom(u *utterance) error {
	for s.queue.full() && !u.over {
		s.queue.rest()
		s.rest(u)
	}
	if u.over {
		return errUtteranceOver
	}
	if s.queue.crowded() {
		s.note()
	}
	return nil
}

// rest waits until the queue is as low as was said to it, or u is over. The lock is held.
func (s *Session) rest(u *utterance) {
	for !s.queue.low() && !u.over {
		s.room.Wait()
	}
	s.queue.rested()
}

// deliver writes all that is due, and sees to it that it is called again for
// the rest: by the clock, by the flusher, by RESUME or by the next frame. The
// lock is held.
func (s *Session) deliver(now time.Time) {
	if due, more := s.deliverDue(now); more {
		s.deliverAt(due)
	} else {
		s.note() // for it may be long until there is more
	}
	if s.queue.low() {
		s.room.Signal()
	}
}

// beginTick is the first half of the clock's deliver, which gathers what is due.
// It is called with the lock held, and that stays so until endTick; after a panic it
// has let the lock go, and reports false.
func (s *Session) beginTick(now time.Time) (ok bool) {
	defer s.guard()
	defer func() {
		if !ok {
			s.mu.Unlock()
		}
	}()
	if s.mayWrite() && s.queue.n > 0 {
		s.gather(now)
	}
	return true
}

// endTick is the second half, after what was gathered was sent, or not. It reports
// whether the session stays on the clock, and what time it has become.
func (s *Session) endTick(now time.Time, sent bool) (again bool, later time.Time) {
	later = now
	defer s.guard()
	defer s.mu.Unlock()
	if s.gathered > 0 {
		later = s.release(now, sent)
	}
	due, more := s.deliverDue(later)
	s.scheduled, s.due = more, due.Sub(s.clock.start)
	if !more {
		s.note()
	}
	if s.queue.low() {
		s.clock.low = append(s.clock.low, s)
	}
	return more, later
}

// deliverDue writes what is due and reports whether and when more falls due.
func (s *Session) deliverDue(now time.Time) (due time.Time, more bool) {
	for s.mayWrite() {
		switch e := s.queue.front(); {
		case e == nil:
			return time.Time{}, false
		case e.end():
			s.finishUtterance()
		default:
			next, some := s.gather(now)
			if !some {
				return next, s.state != Ended
			}
			now = s.release(now, false)
		}
	}
	return time.Time{}, false
}

// mayWrite reports whether frames may leave. What the socket is known not to have taken
// comes first.
func (s *Session) mayWrite() bool {
	return !s.state.held() && s.state != Ended && !s.flushing
}

// gather numbers the frames that are due and hands them to the connection, which
// keeps them where they lie until release. It reports whether there are any, and if not
// when to look again.
func (s *Session) gather(now time.Time) (next time.Time, some bool) {
	n, next := s.dueBy(now)
	if n > 0 {
		s.conn.Cork()
	}
	for ; s.gathered < n; s.gathered++ {
		e := s.queue.at(s.gathered)
		if err := s.conn.WriteFrame(numberAudio(e.message[:e.size], s.sequence+uint64(s.gathered)+1, s.binary)); err != nil { //nolint:gosec // a count
			s.broken(s.gathered, err)
			return next, false
		}
	}
	return next, n > 0
}

// dueBy returns how many frames of the utterance that is heard may leave at now:
// at most as many as are written at once, and as are charged for at once. If none may,
// next is when to look again.
func (s *Session) dueBy(now time.Time) (n int, next time.Time) {
	if next, held := s.heldBack(now); held {
		return 0, next
	}
	most := min(s.queue.n, gatherAtMost)
	if s.allowance != nil && most > 0 {
		most = min(most, chargeEvery-int(s.utterances[0].frames%chargeEvery)) //nolint:gosec // less than chargeEvery
	}
	for n < most && !s.queue.at(n).end() && !s.pace.dueAfter(n, now).After(now) {
		n++
	}
	return n, s.pace.wake(s.clock.timekeeping.gathers())
}

// gatherAtMost is of how many frames a write is, at most: a client that does not
// read is to be noticed.
const gatherAtMost = 12

// release writes the frames that were gathered, unless they were sent already, at
// now, and puts down how they have left. It returns what time it has become.
func (s *Session) release(now time.Time, sent bool) time.Time {
	n := s.gathered
	s.gathered = 0
	if err := s.conn.Uncork(); err != nil {
		s.broken(n, err)
		return now
	}
	s.flushIfBlocked()
	if !sent {
		now = time.Now()
	}
	u := s.utterances[0]
	for range n {
		s.sequence++
		s.written(u, s.queue.front(), now)
		s.pop()
	}
	s.tellTimings(u)
	s.charged(u)
	return now
}

// broken ends the session for its connection has failed with so many frames in its
// hands. They are counted as written: some may have left, and the client may come
// back for what follows.
func (s *Session) broken(frames int, err error) {
	s.note()                     // of those before, which it numbers by the last
	s.sequence += uint64(frames) //nolint:gosec // a count
	s.lost(err)
}

// pop takes the frame that was written out of the queue.
func (s *Session) pop() {
	s.queue.pop()
	if s.queue.unnoted == noteEvery {
		s.note()
	}
}

// finishUtterance acts on the end of an utterance when all of it was written.
func (s *Session) finishUtterance() {
	s.note()
	s.queue.drop()
	u := s.utterances[0]
	s.utterances = s.utterances[1:]
	why, problem := Completed, (*Error)(nil)
	if u.err != nil {
		why, problem = Failed, asError(u.err)
		s.logger().WarnContext(u.ctx, "utterance failed", "utterance", u.number, "code", problem.Code,
			"cause", problem.Error(), "resolution", problem.Resolution, "runbook", problem.Code.Runbook())
	}
	s.endUtterance(u, why)
	s.tellEnd(u, why, problem)
	s.turn = s.hub.now()
	s.story.heard = s.turn // a session is not idle while it speaks
	if len(s.utterances) == 0 {
		s.transition(eventSpoken)
		s.endIfDrained()
	}
}

// flushIfBlocked starts the flusher when bytes wait for the socket: a client
// that takes its time costs itself a goroutine, and nobody else. Whoever has written
// calls it.
func (s *Session) flushIfBlocked() {
	if !s.flushing && s.conn.Blocked() {
		s.flushing = true
		s.work.Go(s.flush)
	}
}

func (s *Session) flush() {
	defer s.guard()
	err := s.conn.Flush(s.hub.cfg.SlowClientTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushing = false
	switch {
	case err == nil:
		s.released = time.Now()
		s.flushIfBlocked() // what was written since, before it was known that there is room
		s.deliver(s.released)
	case s.state == Ended:
		s.conn.Abort()
	default:
		s.lost(err)
	}
}
