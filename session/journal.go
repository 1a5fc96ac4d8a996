package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"time"
)

// Record is what a session leaves in the journal: enough for any edge to go on
// with it. It holds text and positions, never audio.
type Record struct {
	ID        string    `json:"id"`
	Epoch     int64     `json:"epoch"` // rises with every resume; the newer one owns the session
	TokenHash string    `json:"token_hash"`
	Client    string    `json:"client,omitempty"` // who alone may resume it
	Params    Params    `json:"params"`
	Opened    time.Time `json:"opened"`
	Messages  int       `json:"messages"`
	Paused    bool      `json:"paused,omitempty"`
	Accepted  uint64    `json:"accepted"` // utterances
	Sequence  uint64    `json:"sequence"` // of the last frame written when this was taken
	Worker    string    `json:"worker,omitempty"`
	Model     string    `json:"model,omitempty"`
	// Traceparent is the W3C context that the client gave the session, whose decision
	// on sampling holds over all its connections.
	Traceparent string              `json:"traceparent,omitempty"`
	Utterances  []RecordedUtterance `json:"utterances,omitempty"`

	Lost    bool `json:"-"` // its connection is: it need not be kept for longer than a resume window
	unowned bool // the journal cannot be asked who owns it
	stale   bool // it is the journal's: more frames may have been written than it says
}

// RecordedUtterance is an utterance that the client may not have heard all of.
type RecordedUtterance struct {
	Number uint64   `json:"number"`
	Text   []string `json:"text,omitempty"`
	Final  bool     `json:"final,omitempty"`
	First  uint64   `json:"first,omitempty"`  // sequence of its first frame, 0 before there is one
	Last   uint64   `json:"last,omitempty"`   // sequence of its last frame, when it is over
	Reason Reason   `json:"reason,omitempty"` // why it is over, or empty
	Places []Place  `json:"places,omitempty"` // from which it can be spoken on
	// Traceparent is the W3C context of its span.
	Traceparent string `json:"traceparent,omitempty"`
}

// Taken is a session of which everything up to an epoch is over, because its
// client has resumed it elsewhere.
type Taken struct {
	ID    string
	Epoch int64
}

// ErrNoRecord says that the journal has no such session, and ErrTaken that
// another connection has just resumed it.
var (
	ErrNoRecord = errors.New("no such session in the journal")
	ErrTaken    = errors.New("another connection has just resumed it")
)

// Journal keeps records where other edges find them. A record expires when it
// was not saved for two resume windows, for one passes until a session that does not change
// is saved again, and its edge may die just before that; or for one, if it was Lost.
type Journal interface {
	// Save stores the records. It returns those among them that a newer epoch has
	// superseded, which it has not stored.
	Save(ctx context.Context, records []Record) (superseded []Taken, err error)
	// Load returns a session's record, or ErrNoRecord.
	Load(ctx context.Context, id string) (Record, error)
	// Take raises the record's epoch by one and stores it, and tells the edge that
	// had it. It fails with ErrTaken when another was faster.
	Take(ctx context.Context, r *Record) error
	// Taken yields the sessions of this edge that another has taken. What is lost
	// on the way, Save finds out.
	Taken() <-chan Taken
	// Reconnected yields when the journal was away, and may have lost what it kept.
	Reconnected() <-chan struct{}
	// Forget removes sessions that are over for good, by their ids, but not those of
	// a newer epoch than theirs.
	Forget(ctx context.Context, over map[string]int64) error
}

// hashToken is what of a resume token leaves the process.
func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// owns reports whether the token is the record's.
func (r *Record) owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(hashToken(token)), []byte(r.TokenHash)) == 1
}

const (
	// keepUtterances and keepRunes bound what a session remembers of utterances
	// that are over, in case the client has not received all of them.
	keepUtterances = 32
	keepRunes      = 20_000
)

// record takes down the session. The lock is held.
func (s *Session) record() Record {
	r := Record{
		ID: s.id, Epoch: s.epoch, TokenHash: hashToken(s.token), Client: s.client, Params: s.params,
		Opened: s.story.opened, Messages: s.story.messages, Paused: s.state.held(),
		Accepted: s.accepted, Sequence: s.sequence, Traceparent: s.traceparent,
	}
	r.Worker, r.Model = s.speaker.Worker()
	r.Utterances = append(r.Utterances, s.past...)
	for _, u := range s.utterances {
		r.Utterances = append(r.Utterances, u.recorded(""))
	}
	return r
}

func (u *utterance) recorded(why Reason) RecordedUtterance {
	text, final := u.script.all()
	r := RecordedUtterance{Number: u.number, Text: text, Final: final, First: u.first, Reason: why, Traceparent: u.traceparent}
	if why != "" {
		r.Last = u.last
	}
	if why == "" || why == Completed { // it may be spoken again
		r.Places = slices.Clone(u.places)
	}
	return r
}

// passed returns those of its places that lie within the first so many frames.
func (r *RecordedUtterance) passed(frames uint64) []Place {
	n := slices.IndexFunc(r.Places, func(p Place) bool { return p.Frames > frames })
	if n < 0 {
		n = len(r.Places)
	}
	return slices.Clone(r.Places[:n])
}

// remember keeps an utterance that is over for a client that comes back. The
// lock is held.
func (s *Session) remember(u *utterance, why Reason) {
	s.past = append(s.past, u.recorded(why))
	runes := 0
	for i := len(s.past) - 1; i >= 0; i-- {
		for _, text := range s.past[i].Text {
			runes += len(text)
		}
		if len(s.past)-i > keepUtterances || runes > keepRunes && i < len(s.past)-1 {
			s.past = append(s.past[:0], s.past[i+1:]...)
			return
		}
	}
}

// changed has the journal take the session down. The lock is held.
func (s *Session) changed() {
	if !s.unsaved {
		s.unsaved = true
		s.hub.keeper.changed(s)
	}
}
