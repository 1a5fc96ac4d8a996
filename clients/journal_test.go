package clients

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/session"
)

// twoEdges are the journals of two edges that share a Redis.
func twoEdges(t *testing.T) (here, there *Journal) {
	t.Helper()
	r := startRedis(t)
	return NewJournal(r.client(), time.Minute), NewJournal(r.client(), time.Minute)
}

func journalled(t *testing.T, j *Journal, r session.Record) (superseded []session.Taken) {
	t.Helper()
	superseded, err := j.Save(t.Context(), []session.Record{r})
	if err != nil {
		t.Fatal(err)
	}
	return superseded
}

// epochOf is that of the session's record, or 0 where there is none.
func epochOf(t *testing.T, j *Journal, id string) int64 {
	t.Helper()
	r, err := j.Load(t.Context(), id)
	if errors.Is(err, session.ErrNoRecord) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.Epoch
}

func TestJournalHasOneOwner(t *testing.T) {
	here, there := twoEdges(t)
	first := session.Record{ID: "s", Epoch: 1, Sequence: 7}
	if late := journalled(t, here, first); len(late) != 0 {
		t.Fatalf("a new session is superseded: %v", late)
	}
	taken, err := there.Load(t.Context(), "s")
	if err != nil || taken.Sequence != 7 {
		t.Fatalf("%+v %v", taken, err)
	}
	if err := there.Take(t.Context(), &taken); err != nil || taken.Epoch != 2 {
		t.Fatalf("%+v %v", taken, err)
	}
	if err := here.Take(t.Context(), &first); !errors.Is(err, session.ErrTaken) {
		t.Errorf("taken twice: %v", err)
	}
	if late := journalled(t, here, first); len(late) != 1 || late[0] != (session.Taken{ID: "s", Epoch: 1}) {
		t.Errorf("the former owner is not told: %v", late)
	}
	// It could not ask Redis, went on with its own, and has come to the same epoch.
	if late := journalled(t, here, session.Record{ID: "s", Epoch: 2}); len(late) != 1 {
		t.Errorf("two edges own one epoch: %v", late)
	}
	if late := journalled(t, there, taken); len(late) != 0 {
		t.Errorf("the owner is superseded: %v", late)
	}
}

func TestJournalForgetsNoNewerEpoch(t *testing.T) {
	here, there := twoEdges(t)
	journalled(t, here, session.Record{ID: "taken", Epoch: 1})
	journalled(t, here, session.Record{ID: "over", Epoch: 3})
	taken := session.Record{ID: "taken", Epoch: 1}
	if err := there.Take(t.Context(), &taken); err != nil {
		t.Fatal(err)
	}
	if err := here.Forget(context.Background(), map[string]int64{"taken": 1, "over": 3, "unknown": 1}); err != nil {
		t.Fatal(err)
	}
	if epoch := epochOf(t, there, "taken"); epoch != 2 {
		t.Errorf("the new owner's record has epoch %d", epoch)
	}
	if epoch := epochOf(t, here, "over"); epoch != 0 {
		t.Errorf("what is over is still there, epoch %d", epoch)
	}
}

// commands counts those that Redis is sent, by name.
type commands map[string]int

func (c commands) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (c commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (c commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c[cmd.Name()]++
		}
		return next(ctx, cmds)
	}
}

// Scripts are called by their hashes, which a Redis that was started anew does not know.
func TestJournalGivesRedisItsScripts(t *testing.T) {
	r := startRedis(t)
	client := r.client()
	sent := commands{}
	client.AddHook(sent)
	j := NewJournal(client, time.Minute)
	record := session.Record{ID: "s", Epoch: 1}
	both := []session.Record{record, {ID: "another", Epoch: 1}}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"save", func() error { _, err := j.Save(t.Context(), both); return err }},
		{"take", func() error { return j.Take(t.Context(), &record) }},
		{"forget", func() error { return j.Forget(t.Context(), map[string]int64{"s": 2, "another": 1}) }},
	} {
		if err := client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if record.Epoch != 2 || epochOf(t, j, "s") != 0 || epochOf(t, j, "another") != 0 {
		t.Errorf("epoch %d; what was forgotten has %d and %d", record.Epoch, epochOf(t, j, "s"), epochOf(t, j, "another"))
	}
	for range 2 {
		clear(sent)
		if late, err := j.Save(t.Context(), both); err != nil || len(late) != 0 {
			t.Errorf("%v, %v", late, err)
		}
	}
	if sent["evalsha"] != 2 || len(sent) != 1 {
		t.Errorf("to save two records once more took %v", sent)
	}
}

// When Redis was away it may have lost the records.
func TestJournalTellsOfRedisReturn(t *testing.T) {
	r := startRedis(t)
	client := r.client()
	j := NewJournal(client, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); j.Run(ctx) }()
	defer func() { cancel(); <-done }()
	r.awaitSubscribers(client, EdgeChannel+j.edge, 1)
	if err := client.Publish(t.Context(), EdgeChannel+j.edge, "s 1").Err(); err != nil {
		t.Fatal(err)
	}
	<-j.Taken() // which comes behind what tells that it is subscribed
	select {
	case <-j.Reconnected():
		t.Fatal("it was not away")
	default:
	}
	r.kill()
	r.start()
	select {
	case <-j.Reconnected():
	case <-time.After(patience):
		t.Fatal("its return was not told")
	}
}

// A living session's record outlasts the window that passes until it is saved again, and the
// one in which its client may come back; a lost one's only that.
func TestRecordsExpire(t *testing.T) {
	here, _ := twoEdges(t)
	for _, lost := range []bool{false, true} {
		journalled(t, here, session.Record{ID: "s", Epoch: 1, Lost: lost})
		ttl, err := here.redis.PTTL(t.Context(), JournalPrefix+"s").Result()
		least, most := 110*time.Second, 2*time.Minute+saveDelay
		if lost {
			least, most = 0, time.Minute
		}
		if err != nil || ttl <= least || ttl > most {
			t.Errorf("lost: %t: it expires in %s, %v; want %s to %s", lost, ttl, err, least, most)
		}
	}
}
