package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// Resumption is a session that was lost and is to go on over a new connection.
type Resumption struct {
	record Record
	token  string
	after  uint64
}

const resumedElsewhere = "resumed_elsewhere"

// errNotFound is all that anyone learns who is not the session's client, or
// comes too late, or asks for frames that are no longer known.
var errNotFound = Errorf(SessionNotFound, "Open a new session",
	"there is no such session to resume: it ended, it was lost too long ago, or the token is not its own")

// Resume takes over the session from wherever it was last: a connection of
// this edge that is or was, or another edge's record in the journal. The client
// has received all frames up to the sequence after, and has shown to be client,
// as it was before.
func (h *Hub) Resume(ctx context.Context, id, token, client string, after uint64) (*Resumption, *Error) {
	if h.Draining() {
		return nil, errDraining
	}
	record, err := h.takeOver(ctx, id, token, client, after)
	for try := 1; errors.Is(err, ErrTaken) && try < 3; try++ { // by another try of the same client, likely
		record, err = h.takeOver(ctx, id, token, client, after)
	}
	if err != nil {
		problem := notResumed(err)
		h.log.Info("a session was not resumed", "session_id", id, "code", problem.Code, "cause", err.Error(),
			"resolution", "none, if the client came too late or guessed; else see that Redis is reachable at REDIS_URL")
		h.recorder.Problem(string(problem.Code))
		return nil, problem
	}
	h.keeper.leave(record) // until it is opened, which the client may not live to see
	return &Resumption{record, token, after}, nil
}

func (h *Hub) takeOver(ctx context.Context, id, token, client string, after uint64) (Record, error) {
	record, here, err := h.locate(ctx, id, token, client)
	if err == nil && record.Client != client {
		err = fmt.Errorf("%w of %q", ErrNoRecord, client)
	}
	if err == nil && !record.reaches(after) {
		err = fmt.Errorf("%w %d (written: %d, known from: %d)", errUnknownFrame, after, record.Sequence, record.firstKnown())
	}
	if err == nil {
		err = h.own(ctx, &record, here)
	}
	return record, err
}

var errUnknownFrame = errors.New("frames are not known from")

// notResumed is what the client is told. Only one that has shown the token
// learns more than that there is no such session.
func notResumed(err error) *Error {
	switch {
	case errors.Is(err, ErrNoRecord):
		return errNotFound
	case errors.Is(err, ErrTaken):
		return Errorf(ConnectionError, "Use that connection, or resume again in a second", "another connection has just resumed this session")
	case errors.Is(err, errUnknownFrame):
		return Errorf(InvalidMessage, `Give in "after" the sequence of the last frame that was received, or open a new session`,
			"the session cannot go on there: %v", err)
	}
	return Errorf(ConnectionError, "Resume again in a second; if there was only one edge, it may be that one that knows the session",
		"the store of lost sessions cannot be reached")
}

// locate finds the newest record of the session, which is this edge's own or
// what another has come to write of it in the journal.
func (h *Hub) locate(ctx context.Context, id, token, client string) (r Record, here bool, err error) {
	local, here, lived := h.locateHere(id, token, client)
	switch {
	case h.keeper.journal == nil && here:
		return local, true, nil
	case h.keeper.journal == nil && lived:
		return r, false, ErrTaken
	case h.keeper.journal == nil:
		return r, false, ErrNoRecord
	}
	r, err = h.keeper.journal.Load(ctx, id)
	r.stale = true
	local.unowned = err != nil && !errors.Is(err, ErrNoRecord) // the journal is away, but the session was this edge's
	if here && (err != nil || r.Epoch <= local.Epoch) {        // at least as new
		return local, true, nil //nolint:nilerr // it is found all the same
	}
	if err == nil && !r.owns(token) {
		err = ErrNoRecord
	}
	return r, false, err
}

// locateHere finds the record of a session that is or was at this edge. One
// that lives is ended, and may by then have been taken over already: then it
// is looked for again.
func (h *Hub) locateHere(id, token, client string) (r Record, here, lived bool) {
	for range 3 {
		h.mu.Lock()
		live := h.sessions[id]
		h.mu.Unlock()
		if live != nil && (live.client != client || !live.owned(token)) {
			return r, false, false
		}
		if live != nil {
			lived = true
			if live.supersede(true) {
				h.vacate() // the client must not be refused for want of its own place
			}
		}
		if r, here = h.keeper.lostHere(id, token); here {
			break
		}
	}
	return r, here, lived
}

// own makes the record this edge's, so that no other writes it any more.
func (h *Hub) own(ctx context.Context, r *Record, here bool) error {
	if h.keeper.journal == nil || r.unowned {
		return h.keeper.take(r)
	}
	err := h.keeper.journal.Take(ctx, r)
	if err != nil && here && !errors.Is(err, ErrTaken) {
		return h.keeper.take(r) // the journal is away, but the session was this edge's
	}
	return err
}

// owned reports whether the token is the session's.
func (s *Session) owned(token string) bool {
	r := Record{TokenHash: hashToken(s.token)}
	return r.owns(token)
}

// supersede ends a session that its client resumes over another connection,
// and leaves its record if no newer one is elsewhere. If anybody still listens
// on the old connection, they are told.
func (s *Session) supersede(leave bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Ended {
		return false
	}
	s.finish(resumedElsewhere, CloseDone, nil, leave)
	s.farewell(CloseDone, resumedElsewhere)
	return true
}

// taken ends the session if it is the one that was taken.
func (s *Session) taken(t Taken) {
	if s.id == t.ID && s.epoch <= t.Epoch {
		s.supersede(false)
	}
}

// follow ends sessions as soon as other edges have taken them, and saves all when the
// journal may have lost them.
func (h *Hub) follow(journal Journal) {
	for {
		select {
		case t := <-journal.Taken():
			h.mu.Lock()
			s := h.sessions[t.ID]
			h.mu.Unlock()
			if s != nil {
				s.taken(t)
			}
		case <-journal.Reconnected():
			h.keeper.saveLost()
			for _, s := range h.all(nil) {
				s.mu.Lock()
				s.changed()
				s.mu.Unlock()
			}
		case <-h.stop:
			return
		}
	}
}

// reaches reports whether the session can go on behind the frame after: that
// must not lie before the first utterance that is still known, nor behind all
// that was ever written, which a stale record does not know.
func (r *Record) reaches(after uint64) bool {
	if !r.stale && after > r.Sequence {
		return false
	}
	return after+1 >= r.firstKnown()
}

// firstKnown is the sequence of the first frame of the first utterance known.
// One of which no frame had been written comes behind all that were.
func (r *Record) firstKnown() uint64 {
	if len(r.Utterances) > 0 && r.Utterances[0].First != 0 {
		return r.Utterances[0].First
	}
	return r.Sequence + 1
}

// restore makes s what it was when the client had received the frame after.
// Utterances of which frames are missing are spoken again, and what the client
// has of them is left out. Ends are said again: the client may have missed them.
func (s *Session) restore(r *Resumption) (ends []utteranceEndMessage) {
	s.story.opened = r.record.Opened
	s.story.messages, s.story.before, s.story.after = r.record.Messages, r.record.Messages, r.after
	s.accepted = r.record.Accepted
	s.sequence, s.position = r.after, r.after
	first := r.record.Sequence + 1 // of an utterance of which no frame had been written
	for _, old := range r.record.Utterances {
		if old.Reason != "" && (old.Reason != Completed || old.Last <= r.after) {
			first = old.Last + 1
			old.Last = min(old.Last, r.after)
			s.past = append(s.past, old)
			ends = append(ends, utteranceEndMessage{"utterance_end", old.Number, old.Last, string(old.Reason), ""})
			continue
		}
		if old.First != 0 {
			first = old.First
		}
		heard := uint64(0)
		if len(s.utterances) == 0 && first <= r.after {
			heard = r.after + 1 - first
		}
		s.revive(old, heard)
	}
	if r.record.Paused {
		s.transition(eventPause)
	}
	if len(s.utterances) > 0 {
		s.transition(eventText)
	}
	return ends
}

// revive has an utterance spoken again, of which the client has so many frames, from the
// last place within them on.
func (s *Session) revive(old RecordedUtterance, heard uint64) {
	u := s.newUtterance(old.Number, "", old.Traceparent)
	for _, text := range old.Text {
		u.script.Add(text, false)
	}
	if old.Final || old.Reason != "" {
		u.script.Add("", true)
	} else {
		s.open = u
	}
	if u.places = old.passed(heard); len(u.places) > 0 {
		u.from = u.places[len(u.places)-1]
	}
	if heard > 0 {
		s.skip = heard - u.from.Frames
		s.position = s.sequence - s.skip
	}
	u.first = old.First // in case that this connection too is lost before it is spoken
	s.utterances = append(s.utterances, u)
	s.unspoken++
}

// newUtterance takes the W3C contexts that the client gave with its text, and
// of what was spoken of it before the session was resumed.
func (s *Session) newUtterance(number uint64, given, earlier string) *utterance {
	u := &utterance{number: number, script: NewScript(), accepted: time.Now()}
	u.trace = s.tracing.Utterance(telemetry.UtteranceStart{Session: s.id, Number: number, Accepted: u.accepted, Traceparent: given, Earlier: earlier})
	u.spans, u.traceparent = u.trace.Spans(), u.trace.Traceparent()
	u.ctx, u.cancel = context.WithCancel(u.trace.Context(s.ctx))
	return u
}
