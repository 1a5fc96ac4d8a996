package session

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// saveInterval is the least time between two saves: what changes meanwhile is
	// saved once.
	saveInterval = 20 * time.Millisecond
	saveTimeout  = time.Second
	saveRetry    = 500 * time.Millisecond
)

// keeper saves the records of sessions that changed, all of them in one
// goroutine and many in one call, so that speaking never waits for the journal.
type keeper struct {
	journal Journal // nil: sessions can be resumed at this edge alone
	window  time.Duration
	log     *slog.Logger

	mu     sync.Mutex
	dirty  map[*Session]struct{}
	over   map[string]int64      // epochs of sessions to be forgotten
	lost   map[string]lostRecord // of sessions that may be resumed here
	wake   chan struct{}
	failed bool // the last save
}

type lostRecord struct {
	record Record
	until  time.Time
	saved  bool // or being saved
}

func newKeeper(journal Journal, window time.Duration, log *slog.Logger) *keeper {
	return &keeper{
		journal: journal, window: window, log: log, wake: make(chan struct{}, 1),
		dirty: map[*Session]struct{}{}, over: map[string]int64{}, lost: map[string]lostRecord{},
	}
}

func (k *keeper) changed(s *Session) {
	k.mu.Lock()
	k.dirty[s] = struct{}{}
	k.mu.Unlock()
	k.nudge()
}

// leave takes the last record of a session whose client may come back, unless
// it has come back already.
func (k *keeper) leave(r Record) {
	r.unowned = false
	k.mu.Lock()
	if l, ok := k.lost[r.ID]; !ok || l.record.Epoch <= r.Epoch {
		k.lost[r.ID] = lostRecord{record: r, until: time.Now().Add(k.window)}
	}
	k.mu.Unlock()
	k.nudge()
}

// forget drops a session that is over for good, unless it has been taken since.
func (k *keeper) forget(id string, epoch int64) {
	k.mu.Lock()
	if l, ok := k.lost[id]; ok && l.record.Epoch <= epoch {
		delete(k.lost, id)
	}
	k.over[id] = max(k.over[id], epoch)
	k.mu.Unlock()
	k.nudge()
}

// lostHere returns the record of a session that was lost at this edge.
func (k *keeper) lostHere(id, token string) (Record, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.lost[id]
	if !ok || time.Now().After(l.until) || !l.record.owns(token) {
		return Record{}, false
	}
	return l.record, true
}

// take raises the record's epoch by one, or fails with ErrTaken when another
// was faster. It is the journal's Take for sessions lost here.
func (k *keeper) take(r *Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.lost[r.ID]
	if !ok || l.record.Epoch != r.Epoch {
		return ErrTaken
	}
	r.Epoch++
	l.record.Epoch, l.saved = r.Epoch, false
	k.lost[r.ID] = l
	return nil
}

// opened drops the record of a session that lives again, unless it has been
// taken once more meanwhile.
func (k *keeper) opened(s *Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l, ok := k.lost[s.id]; ok && l.record.Epoch <= s.epoch {
		delete(k.lost, s.id)
	}
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run saves until stop is closed, and then once more.
func (k *keeper) run(stop <-chan struct{}) {
	for {
		wait := saveInterval
		select {
		case <-k.wake:
			if !k.save() {
				wait = saveRetry
			}
		case <-stop:
			k.save()
			return
		}
		select {
		case <-time.After(wait):
		case <-stop:
			k.save()
			return
		}
	}
}

// save brings the journal up to date and reports whether it could.
func (k *keeper) save() bool {
	sessions, records, over := k.due()
	if k.journal == nil || len(records)+len(over) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	superseded, err := k.journal.Save(ctx, records)
	if err == nil && len(over) > 0 {
		err = k.journal.Forget(ctx, over)
	}
	k.tell(err)
	if err != nil {
		k.again(sessions, records, over)
		return false
	}
	for _, taken := range superseded {
		for _, s := range sessions {
			s.taken(taken)
		}
	}
	return true
}

// due takes what is to be saved, and drops what was lost too long ago.
func (k *keeper) due() (sessions []*Session, records []Record, over map[string]int64) {
	k.mu.Lock()
	now := time.Now()
	for id, l := range k.lost {
		if now.After(l.until) {
			delete(k.lost, id)
		} else if !l.saved {
			records = append(records, l.record)
			l.saved = true
			k.lost[id] = l
		}
	}
	over, k.over = k.over, map[string]int64{}
	for s := range k.dirty {
		sessions = append(sessions, s)
	}
	clear(k.dirty)
	k.mu.Unlock()
	for _, s := range sessions { // a session's lock is never taken inside the keeper's
		if r, ok := s.takeDown(); ok {
			records = append(records, r)
		}
	}
	return sessions, records, over
}

// again puts back what could not be saved.
func (k *keeper) again(sessions []*Session, records []Record, over map[string]int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range sessions {
		k.dirty[s] = struct{}{}
	}
	for _, r := range records {
		if l, ok := k.lost[r.ID]; ok {
			l.saved = false
			k.lost[r.ID] = l
		}
	}
	for id, epoch := range over {
		k.over[id] = max(k.over[id], epoch)
	}
	k.nudge()
}

func (k *keeper) tell(err error) {
	switch {
	case err != nil && !k.failed:
		k.log.Warn("the journal cannot be written: until it can, lost sessions can be resumed at this edge alone",
			"cause", err.Error(), "resolution", "see that Redis is reachable at REDIS_URL; it is tried again")
	case err == nil && k.failed:
		k.log.Info("the journal can be written again")
	}
	k.failed = err != nil
}

// takeDown returns the record of a session that is not over.
func (s *Session) takeDown() (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved = false
	s.story.saved = time.Now()
	if s.state == Ended {
		return Record{}, false
	}
	return s.record(), true
}
