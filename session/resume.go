package session

import (
	"context"
	"errors"
	"time"
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
	record, err := h.locate(ctx, id, token)
	if err != nil {
		if !errors.Is(err, ErrNoRecord) {
			h.log.Warn("a session cannot be resumed", "session_id", id, "cause", err.Error(),
				"resolution", "see that Redis is reachable at REDIS_URL")
		}
		h.recorder.Problem(string(SessionNotFound))
		return nil, errNotFound
	}
	if !record.reaches(after) {
		h.recorder.Problem(string(SessionNotFound))
		return nil, errNotFound
	}
	return &Resumption{record, token, after}, nil
}

// locate finds the newest record of the session and makes it this hub's own.
func (h *Hub) locate(ctx context.Context, id, token string) (Record, error) {
	h.mu.Lock()
	live := h.sessions[id]
	h.mu.Unlock()
	if live != nil {
		if !live.owned(token) {
			return Record{}, ErrNoRecord
		}
		if live.supersede(true) {
			h.vacate() // the client must not be refused for want of its own place
		}
	}
	local, here := h.keeper.claim(id, token)
	if h.keeper.journal == nil {
		if !here {
			return Record{}, ErrNoRecord
		}
		local.Epoch++
		return local, nil
	}
	record, err := h.keeper.journal.Load(ctx, id)
	if here && (err != nil || record.Epoch <= local.Epoch) {
		record, err = local, nil // at least as new, and there even when the journal is not
	}
	switch {
	case err != nil:
		return Record{}, err
	case !record.owns(token):
		return Record{}, ErrNoRecord
	}
	err = h.keeper.journal.Take(ctx, &record)
	if err != nil && here && !errors.Is(err, ErrNoRecord) {
		record.Epoch++ // the journal is away, but the session was this edge's
		err = nil
	}
	return record, err
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
// must not lie before the first utterance that is still known, nor behind a last
// one that is over.
func (r *Record) reaches(after uint64) bool {
	if len(r.Utterances) == 0 {
		return after == r.Sequence
	}
	last := r.Utterances[len(r.Utterances)-1]
	return after+1 >= r.firstKnown() && (last.Reason == "" || after <= last.Last)
}

// firstKnown is the sequence of the first frame of the first utterance known.
// One of which no frame had been written comes behind all that were.
func (r *Record) firstKnown() uint64 {
	if first := r.Utterances[0].First; first != 0 {
		return first
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
			ends = append(ends, utteranceEndMessage{"utterance_end", old.Number, old.Last, string(old.Reason)})
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
	u := s.newUtterance(old.Number)
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

func (s *Session) newUtterance(number uint64) *utterance {
	u := &utterance{number: number, script: NewScript(), accepted: time.Now()}
	u.ctx, u.cancel = context.WithCancel(s.ctx)
	return u
}
