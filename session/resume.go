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
// has received all frames up to the sequence after.
func (h *Hub) Resume(ctx context.Context, id, token string, after uint64) (*Resumption, *Error) {
	if h.Draining() {
		return nil, errDraining
	}
	record, fresh, err := h.locate(ctx, id, token)
	if err == nil && !record.reaches(after, fresh) {
		err = fmt.Errorf("%w: its frame %d is not known (written: %d, known from: %d)", ErrNoRecord, after, record.Sequence, record.firstKnown())
	}
	if err == nil {
		err = h.own(ctx, &record, fresh)
	}
	if err != nil {
		h.log.Info("a session was not resumed", "session_id", id, "cause", err.Error(),
			"resolution", "none, if the client came too late or guessed; else see that Redis is reachable at REDIS_URL")
		h.recorder.Problem(string(SessionNotFound))
		return nil, errNotFound
	}
	h.keeper.leave(record) // until it is opened, which the client may not live to see
	return &Resumption{record, token, after}, nil
}

// locate finds the newest record of the session. It is fresh when the session
// was last at this edge, and not what another has come to write of it.
func (h *Hub) locate(ctx context.Context, id, token string) (r Record, fresh bool, err error) {
	h.mu.Lock()
	live := h.sessions[id]
	h.mu.Unlock()
	if live != nil {
		if !live.owned(token) {
			return r, false, ErrNoRecord
		}
		if live.supersede(true) {
			h.vacate() // the client must not be refused for want of its own place
		}
	}
	local, here := h.keeper.lostHere(id, token)
	if h.keeper.journal == nil {
		if !here {
			return r, false, ErrNoRecord
		}
		return local, true, nil
	}
	r, err = h.keeper.journal.Load(ctx, id)
	switch {
	case here && (err != nil || r.Epoch <= local.Epoch):
		r, fresh, err = local, true, nil // at least as new, and there even when the journal is not
	case err == nil && !r.owns(token):
		err = ErrNoRecord
	}
	return r, fresh, err
}

// own makes the record this edge's, so that no other writes it any more.
func (h *Hub) own(ctx context.Context, r *Record, fresh bool) error {
	if h.keeper.journal == nil {
		r.Epoch++
		return nil
	}
	err := h.keeper.journal.Take(ctx, r)
	if err != nil && fresh && !errors.Is(err, ErrNoRecord) {
		r.Epoch++ // the journal is away, but the session was this edge's
		return nil
	}
	return err
}

// owned reports whether the token is the session's.
func (s *Session) owned(token string) bool {
	r := Record{TokenHash: hashToken(s.token)}
	return r.owns(token)
}

// supersede ends a session that its client resumes over another connection,
// and leaves its record if no newer one is elsewhere. Nothing is said on the old
// connection: nobody listens there.
func (s *Session) supersede(leave bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Ended {
		return false
	}
	s.finish(resumedElsewhere, CloseAbnormal, nil, leave)
	s.conn.Abort()
	return true
}

// reaches reports whether the session can go on behind the frame after: that
// must not lie before the first utterance that is still known, nor behind all
// that was ever written, which only a fresh record knows.
func (r *Record) reaches(after uint64, fresh bool) bool {
	if fresh && after > r.Sequence {
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
	s.story.messages = r.record.Messages
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
		if len(s.utterances) == 0 && first <= r.after {
			s.skip = r.after + 1 - first
			s.position = first - 1
		}
		s.revive(old)
	}
	if r.record.Paused {
		s.transition(eventPause)
	}
	if len(s.utterances) > 0 {
		s.transition(eventText)
	}
	return ends
}

// revive has an utterance spoken again.
func (s *Session) revive(old RecordedUtterance) {
	u := s.newUtterance(old.Number, "", old.Traceparent)
	for _, text := range old.Text {
		u.script.Add(text, false)
	}
	if old.Final || old.Reason != "" {
		u.script.Add("", true)
	} else {
		s.open = u
	}
	s.utterances = append(s.utterances, u)
	s.unspoken = append(s.unspoken, u)
}

// newUtterance takes the W3C contexts that the client gave with its text, and
// of what was spoken of it before the session was resumed.
func (s *Session) newUtterance(number uint64, given, earlier string) *utterance {
	u := &utterance{number: number, script: NewScript(), accepted: time.Now()}
	u.trace = s.tracing.Utterance(telemetry.UtteranceStart{Session: s.id, Number: number, Accepted: u.accepted, Traceparent: given, Earlier: earlier})
	u.spans, u.traceparent = u.trace.Spans(), u.trace.Traceparent()
	u.timed = u.spans != nil || s.timings != nil
	u.ctx, u.cancel = context.WithCancel(u.trace.Context(s.ctx))
	return u
}
