package session

import (
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// sound is what an utterance sounded like to its client.
type sound struct {
	recent    heard         // not yet handed on
	lateness  time.Duration // the worst
	underruns int
	first     time.Duration // from the text, or its turn if that was later, to the first frame
}

// heard is of some frames.
type heard struct {
	waits     telemetry.Distribution // from worker to client
	lateness  telemetry.Distribution // against the pacing
	underruns int                    // the client had played all it was sent
}

// handOn is after how many frames what they sounded like is handed on: ten seconds.
const handOn = 500

// chargeEvery is of how many frames a client is charged at once: 200 ms. So much
// more than its limit it may hear, which Redis and other edges are told later.
const chargeEvery = 10

// charge takes frames that were spoken off what the client may hear, or says
// why no more may be spoken.
func (s *Session) charge(frames uint64) *Error {
	if s.allowance == nil {
		return nil
	}
	return s.allowance.Spoken(time.Duration(frames) * FrameDuration) //nolint:gosec // a count
}

// charged charges for the frames of u that were written, and fails all that is
// to be spoken when the client may hear no more. The lock is held.
func (s *Session) charged(u *utterance) {
	if u.frames%chargeEvery != 0 {
		return
	}
	if problem := s.charge(chargeEvery); problem != nil {
		s.silence(Failed, problem)
		s.turn = time.Now()
		s.story.heard = s.turn
		s.transition(eventSpoken)
		s.endIfDrained()
	}
}

// written takes note of a frame that has left. due is when it might have,
// unless it came later than that; now is when it has.
func (s *Session) written(e *entry, due, now time.Time) {
	u := e.utterance
	u.frames++
	if u.frames == 1 {
		u.sound.first = now.Sub(latest(u.accepted, s.turn, s.released))
		s.story.firstAudio(u.sound.first)
		s.hub.recorder.FirstAudio(u.sound.first)
	}
	recent := &u.sound.recent
	recent.waits.Observe(now.Sub(e.received))
	if !s.pace.unpaced {
		recent.lateness.Observe(now.Sub(latest(e.received, due, s.released)))
	}
	ranDry := s.pace.sent(now)
	if u.frames > 1 && ranDry.After(s.released) && ranDry.After(u.script.Added()) {
		recent.underruns++
	}
	if u.frames%handOn == 0 {
		s.handOn(u)
	}
	if u.timed {
		s.trace(e, now)
	}
}

// handOn hands on what the last frames sounded like.
func (s *Session) handOn(u *utterance) {
	recent := &u.sound.recent
	s.hub.recorder.Frames(&recent.waits, &recent.lateness, recent.underruns)
	u.sound.lateness = max(u.sound.lateness, recent.lateness.Max)
	u.sound.underruns += recent.underruns
	*recent = heard{}
}

func latest(a, b, c time.Time) time.Time {
	if b.After(a) {
		a = b
	}
	if c.After(a) {
		a = c
	}
	return a
}

// trace takes down the frame's way for its span, and for a client that asked.
func (s *Session) trace(e *entry, now time.Time) {
	u := e.utterance
	if u.spans != nil {
		u.spans.Record(telemetry.FrameTimes{
			Sequence: s.sequence, Start: e.received, Queued: e.queued, End: now, Depth: s.queue.n,
			Parent: e.parent,
		})
		s.receipts.sent(s.sequence, now, u.trace)
	}
	if s.timings != nil {
		s.timings.add(s.sequence, e, now, s.queue.n)
	}
}

// tellTimings sends what a client asked for, if there is much of it.
func (s *Session) tellTimings(u *utterance) {
	if s.timings != nil && len(s.timings.frames) >= timingsBatch {
		s.timings.flush(s, u)
	}
}

// observed hands on what an utterance that is over sounded like.
func (s *Session) observed(u *utterance, why Reason, problem *Error) {
	s.handOn(u)
	s.story.utteranceOver(why, &u.sound)
	s.hub.recorder.UtteranceEnded(string(why), u.script.Runes())
	_ = s.charge(u.frames % chargeEvery) // what comes next is told
	worker, model := s.speaker.Worker()
	var err error
	if problem != nil {
		err = problem
	}
	u.trace.End(telemetry.UtteranceEnd{
		Reason: string(why), Worker: worker, Model: model, Characters: u.script.Runes(), Frames: u.frames,
		Underruns: u.sound.underruns, FirstAudio: u.sound.first, WorstLateness: u.sound.lateness, Err: err,
	})
	if s.timings != nil {
		s.timings.flush(s, u)
	}
}

// timings tells a client that asked for it where its frames' time went, some
// frames at once. The session's lock guards it.
type timings struct{ frames [][6]int64 }

const timingsBatch = 50

// Timings are Unix microseconds: emitted by the worker or 0, received by the
// edge, queued, written; with the sequence before and the queue's depth behind.
func (t *timings) add(sequence uint64, e *entry, written time.Time, depth int) {
	t.frames = append(t.frames, [6]int64{int64(sequence), e.emitted / 1000, //nolint:gosec // a count of frames
		e.received.UnixMicro(), e.queued.UnixMicro(), written.UnixMicro(), int64(depth)})
}

func (t *timings) flush(s *Session, u *utterance) {
	if len(t.frames) == 0 || s.state == Ended {
		return
	}
	s.send(timingsMessage{"timings", u.number, u.trace.TraceID(), u.accepted.UnixMicro(), t.frames})
	t.frames = t.frames[:0]
}
