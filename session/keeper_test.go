package session

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// slowJournal keeps records in memory, and takes its time with the first save.
type slowJournal struct {
	saving  chan []Record // what each save is given
	outcome chan error    // what becomes of it
}

func (j *slowJournal) Save(_ context.Context, records []Record) ([]Taken, error) {
	j.saving <- records
	return nil, <-j.outcome
}

func (*slowJournal) Load(context.Context, string) (Record, error)   { return Record{}, ErrNoRecord }
func (*slowJournal) Take(context.Context, *Record) error            { return ErrTaken }
func (*slowJournal) Taken() <-chan Taken                            { return nil }
func (*slowJournal) Reconnected() <-chan struct{}                   { return nil }
func (*slowJournal) Forget(context.Context, map[string]int64) error { return nil }

// What a session leaves while an older record of it is being saved, is saved too,
// and again when that fails.
func TestTheLastRecordOfALostSessionIsSaved(t *testing.T) {
	j := &slowJournal{make(chan []Record), make(chan error)}
	failures := &failures{}
	k := newKeeper(j, time.Minute, slog.New(slog.DiscardHandler), failures)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { defer close(done); k.run(stop) }()
	defer func() { close(stop); <-done }()

	k.leave(Record{ID: "a", Epoch: 1, Sequence: 10})
	<-j.saving
	k.leave(Record{ID: "a", Epoch: 1, Sequence: 20})
	j.outcome <- nil
	for _, becomes := range []error{context.DeadlineExceeded, nil} {
		records := <-j.saving
		if len(records) != 1 || records[0].Sequence != 20 || !records[0].Lost {
			t.Fatalf("saved %+v, want what was left last", records)
		}
		j.outcome <- becomes
	}
	if n := failures.Load(); n != 1 {
		t.Errorf("%d failures were counted, want 1", n)
	}
}

// failures counts how often the journal failed.
type failures struct {
	telemetry.Discard
	atomic.Int64
}

func (f *failures) JournalFailed() { f.Add(1) }

// A session that is over for good is forgotten, but not one that its client has
// resumed meanwhile.
func TestForgettingKnowsEpochs(t *testing.T) {
	k := newKeeper(nil, time.Minute, slog.New(slog.DiscardHandler), telemetry.Discard{})
	left := Record{ID: "a", Epoch: 2, TokenHash: hashToken("secret")}
	k.leave(left)
	k.forget("a", 1)
	if _, ok := k.lostHere("a", "secret"); !ok {
		t.Error("the older connection's end has the newer one forgotten")
	}
	k.forget("a", 2)
	if _, ok := k.lostHere("a", "secret"); ok {
		t.Error("what is over for good can be resumed")
	}
}

// smallJournal is too slow for many records at once, and takes its time for some.
type smallJournal struct {
	slowJournal
	takes            time.Duration
	saved, forgotten map[string]bool
}

func (j *smallJournal) Save(_ context.Context, records []Record) ([]Taken, error) {
	if len(records) > saveAtOnce {
		return nil, context.DeadlineExceeded
	}
	time.Sleep(j.takes)
	for _, r := range records {
		j.saved[r.ID] = true
	}
	return nil, nil
}

func (j *smallJournal) Forget(_ context.Context, over map[string]int64) error {
	if len(over) > saveAtOnce {
		return context.DeadlineExceeded
	}
	for id := range over {
		j.forgotten[id] = true
	}
	return nil
}

// When thousands of sessions change at once, all are saved, some at a time.
func TestThousandsAreSaved(t *testing.T) {
	const many = 10*saveAtOnce + 1
	j := &smallJournal{saved: map[string]bool{}, forgotten: map[string]bool{}}
	k := newKeeper(j, time.Minute, slog.New(slog.DiscardHandler), telemetry.Discard{})
	hub := NewHub(roomy, fiveFrames{}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
	defer hub.Close()
	for i := range many {
		k.leave(Record{ID: fmt.Sprint("lost ", i), Epoch: 1})
		k.forget(fmt.Sprint("over ", i), 1)
	}
	for range many {
		s := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
		defer s.Close()
		k.changed(s)
	}
	if !k.save() || len(j.saved) != 2*many || len(j.forgotten) != many {
		t.Errorf("saved %d sessions and forgot %d, want %d and %d", len(j.saved), len(j.forgotten), 2*many, many)
	}
}

// An edge that shuts down does not wait for a slow journal until all is saved.
func TestTheLastSaveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &smallJournal{takes: 900 * time.Millisecond, saved: map[string]bool{}}
		k := newKeeper(j, time.Minute, slog.New(slog.DiscardHandler), telemetry.Discard{})
		for i := range 100 * saveAtOnce {
			k.leave(Record{ID: fmt.Sprint(i), Epoch: 1})
		}
		stop := make(chan struct{})
		close(stop)
		<-k.wake
		began := time.Now()
		k.run(stop)
		if took := time.Since(began); took > savePatience+time.Second || len(j.saved) < 5*saveAtOnce {
			t.Errorf("%d were saved in %s", len(j.saved), took)
		}
	})
}

// awayJournal was away.
type awayJournal struct {
	smallJournal
	again chan struct{}
}

func (j *awayJournal) Reconnected() <-chan struct{} { return j.again }

// When the journal may have lost what it kept, all sessions are saved, those that may
// be resumed here too.
func TestAllIsSavedWhenTheJournalWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &awayJournal{smallJournal{saved: map[string]bool{}}, make(chan struct{})}
		hub := NewHub(roomy, fiveFrames{}, j, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
		defer hub.Close()
		open := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
		defer open.Close()
		lost := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
		lost.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		clear(j.saved)
		j.again <- struct{}{}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(j.saved) != 2 || !j.saved[open.id] || !j.saved[lost.id] {
			t.Errorf("saved %v, want %s and %s", j.saved, open.id, lost.id)
		}
	})
}
