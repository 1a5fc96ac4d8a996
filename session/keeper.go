package session

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

const (
	// saveInterval is the least time between two saves: what changes meanwhile is
	// saved once.
	saveInterval = 20 * time.Millisecond
	saveTimeout  = time.Second
	saveRetry    = 500 * time.Millisecond
	// savePatience bounds how long an edge that shuts down waits for a slow journal.
	savePatience = 5 * time.Second
	// saveAtOnce is how many records, and how many that are to be forgotten, go in one
	// call: thousands might never be taken in time, and be tried for ever.
	saveAtOnce = 256
)

// keeper saves the records of sessions that changed, all of them in one
// goroutine and many in one call, so that speaking never waits for the journal.
type keeper struct {
	journal  Journal // nil: sessions can be resumed at this edge alone
	window   time.Duration
	log      *slog.Logger
	recorder telemetry.Recorder

	mu     sync.Mutex
	dirty  map[*Session]struct{}
	over   map[string]int64      // epochs of sessions to be forgotten
	lost   map[string]lostRecord // of sessions that may be resumed here
	left   map[string]struct{}   // ids of lost sessions that are not saved, nor being saved
	swept  time.Time             // when lost was last looked through
	wake   chan struct{}
	failed bool // the last save
}

type lostRecord struct {
	record Record
	until  time.Time
}

func newKeeper(journal Journal, window time.Duration, log *slog.Logger, recorder telemetry.Recorder) *keeper {
	return &keeper{
		journal: journal, window: window, log: log, recorder: recorder, wake: make(chan struct{}, 1),
		dirty: map[*Session]struct{}{}, over: map[string]int64{}, lost: map[string]lostRecord{}, left: map[string]struct{}{},
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
	r.unowned, r.Lost = false, true
	k.mu.Lock()
	if l, ok := k.lost[r.ID]; !ok || l.record.Epoch <= r.Epoch {
		k.lost[r.ID] = lostRecord{record: r, until: time.Now().Add(k.window)}
		k.left[r.ID] = struct{}{}
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
	l.record.Epoch = r.Epoch
	k.lost[r.ID] = l
	k.left[r.ID] = struct{}{}
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

// saveLost saves once more what lost sessions have left.
func (k *keeper) saveLost() {
	k.mu.Lock()
	for id := range k.lost {
		k.left[id] = struct{}{}
	}
	k.mu.Unlock()
	k.nudge()
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

// save brings the journal up to date, or leaves the rest for the next time when that takes
// too long. It reports whether nothing failed.
func (k *keeper) save() bool {
	for end := time.Now().Add(savePatience); ; {
		sessions, records, over, more := k.due()
		if k.journal != nil && len(records)+len(over) > 0 {
			if err := k.saveThese(sessions, records, over); err != nil {
				return false
			}
		}
		if !more {
			return true
		}
		if time.Now().After(end) {
			k.nudge()
			return true
		}
	}
}

// saveThese makes one call for the records, of which some are of these sessions, and one
// for those that are over.
func (k *keeper) saveThese(sessions []*Session, records []Record, over map[string]int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
	defer cancel()
	superseded, err := k.journal.Save(ctx, records)
	if err == nil && len(over) > 0 {
		err = k.journal.Forget(ctx, over)
	}
	k.tell(err)
	if err != nil {
		k.again(sessions, records, over)
		return err
	}
	for _, taken := range superseded {
		for _, s := range sessions {
			s.taken(taken)
		}
	}
	return nil
}

// due takes some of what is to be saved, and reports whether there is more. It drops
// what was lost too long ago.
func (k *keeper) due() (sessions []*Session, records []Record, over map[string]int64, more bool) {
	k.mu.Lock()
	k.sweep(time.Now())
	records = make([]Record, 0, min(saveAtOnce, len(k.left)+len(k.dirty)))
	sessions = make([]*Session, 0, min(saveAtOnce, len(k.dirty)))
	for id := range k.left {
		if len(records) == saveAtOnce {
			break
		}
		delete(k.left, id)
		if l, ok := k.lost[id]; ok {
			records = append(records, l.record)
		}
	}
	for s := range k.dirty {
		if len(records)+len(sessions) == saveAtOnce {
			break
		}
		delete(k.dirty, s)
		sessions = append(sessions, s)
	}
	over = map[string]int64{}
	for id, epoch := range k.over {
		if len(over) == saveAtOnce {
			break
		}
		delete(k.over, id)
		over[id] = epoch
	}
	more = len(k.left)+len(k.dirty)+len(k.over) > 0
	k.mu.Unlock()
	for _, s := range sessions { // a session's lock is never taken inside the keeper's
		if r, ok := s.takeDown(); ok {
			records = append(records, r)
		}
	}
	return sessions, records, over, more
}

// sweep drops what was lost too long ago, and looks for that once a second. The lock is
// held.
func (k *keeper) sweep(now time.Time) {
	if now.Sub(k.swept) < time.Second {
		return
	}
	k.swept = now
	for id, l := range k.lost {
		if now.After(l.until) {
			delete(k.lost, id)
			delete(k.left, id)
		}
	}
}

// again puts back what could not be saved.
func (k *keeper) again(sessions []*Session, records []Record, over map[string]int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range sessions {
		k.dirty[s] = struct{}{}
	}
	for _, r := range records {
		if _, ok := k.lost[r.ID]; ok {
			k.left[r.ID] = struct{}{}
		}
	}
	for id, epoch := range over {
		k.over[id] = max(k.over[id], epoch)
	}
	k.nudge()
}

func (k *keeper) tell(err error) {
	if err != nil {
		k.recorder.JournalFailed()
	}
	switch {
	case err != nil && !k.failed:
		k.log.Warn("the journal cannot be written: until it can, lost sessions can be resumed at this edge alone",
			"cause", err.Error(), "resolution", "see that Redis (SESSION_REDIS_URL, else REDIS_URL) is reachable, fast, and has memory left (maxmemory); it is tried again")
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
	s.story.saved = s.hub.now()
	if s.state == Ended {
		return Record{}, false
	}
	return s.record(), true
}
