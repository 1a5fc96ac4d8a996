package session

import (
	"sync/atomic"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// sound is what an utterance sounded like to its client.
type sound struct {
	recent    heard         // not yet handed on
	lateness  time.Duration // the worst
	underruns int
	behind    time.Duration // it has kept its client waiting since it last had caught up, at most a frame's time a frame
	first     time.Duration // from the text, or its turn if that was later, to the first frame
	handedOn  uint64        // frames that recent no longer has
}

// heard is of some frames.
type heard struct {
	waits     telemetry.Distribution // from worker to client
	lateness  telemetry.Distribution // against the pacing
	underruns int                    // the client had played all it was sent
}

// noteEvery is of how many frames note is taken at once, at most. It is more than
// leave a queue of 50, one by one, before a worker is about to fill it again, which brings
// the same memory into the cache: it is done then. handOn is after how many frames what they
// sounded like is handed on: ten seconds.
const (
	noteEvery = 35
	handOn    = 500
)

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
	if s.allowance == nil || u.frames%chargeEvery != 0 {
		return
	}
	if problem := s.charge(chargeEvery); problem != nil {
		s.silence(Failed, problem)
		s.turn = s.hub.now()
		s.story.heard = s.turn
		s.transition(eventSpoken)
		s.endIfDrained()
	}
}

// written puts down in the entry of u's frame, for note, how it has left, at now.
func (s *Session) written(u *utterance, e *entry, now time.Time) {
	e.written, e.depth = now.Sub(s.hub.began), int32(s.queue.n) //nolint:gosec // the queue is no longer than that
	together := s.clock.start.Add(s.due)                        // it may have waited for those it left with
	e.late = now.Sub(latest(s.hub.began.Add(e.received), s.pace.due(), together, s.released))
	u.frames++
	if u.frames == 1 {
		u.sound.first = now.Sub(latest(u.accepted, s.hub.began.Add(s.turn), s.released))
		s.story.firstAudio(u.sound.first)
		s.hub.recorder.FirstAudio(u.sound.first)
	}
	ranDry := s.pace.sent(now)
	switch {
	case u.frames > 1 && ranDry.After(s.released) && ranDry.After(u.script.Added()):
		u.sound.recent.underruns++
		u.sound.behind += min(now.Sub(ranDry), FrameDuration)
	case !ranDry.IsZero(), s.caughtUp(now): // the text was late, or it was not for long
		u.sound.behind = 0
	}
}

// note takes note of the frames that were written since it last did, for metrics,
// for their spans, and for a client that asked. They are all of the utterance that
// is being heard. The lock is held.
func (s *Session) note() {
	if s.queue.unnoted == 0 {
		return
	}
	u := s.utterances[0]
	recent := &u.sound.recent
	now := time.Now()
	began := s.hub.wall.took(now.UnixNano() - int64(now.Sub(s.hub.began)))
	sequence := s.sequence - uint64(s.queue.unnoted)
	// They have left the cache. To copy them first has the processor wait for all
	// at once, and not for each until it knows what to do with it.
	var frames [noteEvery]times
	for i := range s.queue.unnoted {
		frames[i] = s.queue.at(i - s.queue.unnoted).times
	}
	for i := range frames[:s.queue.unnoted] {
		e := &frames[i]
		sequence++
		recent.waits.Observe(e.written - e.received)
		if !s.pace.unpaced {
			recent.lateness.Observe(e.late)
		}
		if u.spans != nil {
			written := began + int64(e.written)
			u.spans.Record(telemetry.FrameTimes{
				Sequence: sequence, Start: began + int64(e.received), Queued: began + int64(e.queued), End: written, Depth: int(e.depth), Parent: e.parent,
			})
			s.receipts.sent(sequence, written, u.trace)
		}
		if s.timings != nil {
			s.timings.add(sequence, e, began)
		}
	}
	u.spans.Publish()
	s.queue.noted()
	if u.frames-u.sound.handedOn >= handOn {
		s.handOn(u)
	}
}

// wall is what the wall clock showed when the hub began, in Unix nanoseconds, as it
// has been set by now.
type wall struct{ atomic.Int64 }

// setBack is by how much a reading must be less than those before to show that the
// clock was set back.
const setBack = 100 * time.Millisecond

// took takes a reading and returns what is known. Readings come of two clocks, the
// wall clock first, and are less than the truth by what the system did in between.
func (w *wall) took(reading int64) int64 {
	known := w.Load()
	if reading > known || reading < known-int64(setBack) {
		w.Store(reading)
		return reading
	}
	return known
}

// handOn hands on what the last frames sounded like.
func (s *Session) handOn(u *utterance) {
	recent := &u.sound.recent
	s.hub.recorder.Frames(&recent.waits, &recent.lateness, recent.underruns)
	u.sound.lateness = max(u.sound.lateness, recent.lateness.Max)
	u.sound.underruns += recent.underruns
	*recent, u.sound.handedOn = heard{}, u.frames
}

func latest(of ...time.Time) (t time.Time) {
	for _, other := range of {
		if other.After(t) {
			t = other
		}
	}
	return t
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
func (t *timings) add(sequence uint64, e *times, began int64) {
	t.frames = append(t.frames, [6]int64{int64(sequence), e.emitted / 1000, //nolint:gosec // a count of frames
		(began + int64(e.received)) / 1000, (began + int64(e.queued)) / 1000, (began + int64(e.written)) / 1000, int64(e.depth)})
}

func (t *timings) flush(s *Session, u *utterance) {
	if len(t.frames) == 0 || s.state == Ended {
		return
	}
	s.send(timingsMessage{"timings", u.number, u.trace.TraceID(), u.accepted.UnixMicro(), t.frames})
	t.frames = t.frames[:0]
}
