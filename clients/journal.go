package clients

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/session"
)

// JournalPrefix is that of the keys that hold sessions' records.
const JournalPrefix = "voxedge:session:"

// Journal keeps sessions' records in Redis, each a hash of its epoch and its
// JSON. It is a session.Journal.
type Journal struct {
	redis *redis.Client
	ttl   time.Duration
}

var _ session.Journal = (*Journal)(nil)

// NewJournal returns a journal for sessions that can be resumed for the window.
// Records of living sessions are saved anew within a third of it.
func NewJournal(client *redis.Client, window time.Duration) *Journal {
	return &Journal{client, window + window/3 + time.Second}
}

// save leaves alone what an edge with a newer epoch owns.
var save = redis.NewScript(`
local epoch = redis.call("HGET", KEYS[1], "epoch")
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return 0 end
redis.call("HSET", KEYS[1], "epoch", ARGV[1], "record", ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
return 1`)

// take raises the epoch if it is still what was loaded.
var take = redis.NewScript(`
if redis.call("HGET", KEYS[1], "epoch") ~= ARGV[1] then return 0 end
redis.call("HINCRBY", KEYS[1], "epoch", 1)
return 1`)

// Save stores the records in one round trip.
func (j *Journal) Save(ctx context.Context, records []session.Record) (superseded []string, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	pipe := j.redis.Pipeline()
	replies := make([]*redis.Cmd, len(records))
	for i := range records {
		data, err := json.Marshal(&records[i])
		if err != nil {
			return nil, err
		}
		replies[i] = save.Eval(ctx, pipe, []string{JournalPrefix + records[i].ID}, records[i].Epoch, data, j.ttl.Milliseconds())
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, reply := range replies {
		if stored, _ := reply.Int(); stored == 0 {
			superseded = append(superseded, records[i].ID)
		}
	}
	return superseded, nil
}

// Load returns a session's record, or session.ErrNoRecord.
func (j *Journal) Load(ctx context.Context, id string) (r session.Record, err error) {
	fields, err := j.redis.HMGet(ctx, JournalPrefix+id, "record", "epoch").Result()
	if err != nil {
		return r, err
	}
	data, ok := fields[0].(string)
	if !ok {
		return r, session.ErrNoRecord
	}
	if err := json.Unmarshal([]byte(data), &r); err != nil {
		return r, err
	}
	epoch, _ := fields[1].(string)
	if err := json.Unmarshal([]byte(epoch), &r.Epoch); err != nil { // the hash's own: a taken record has not been saved yet
		return r, err
	}
	return r, nil
}

// Take makes the record the caller's, or fails with session.ErrNoRecord.
func (j *Journal) Take(ctx context.Context, r *session.Record) error {
	taken, err := take.Run(ctx, j.redis, []string{JournalPrefix + r.ID}, r.Epoch).Int()
	switch {
	case err != nil:
		return err
	case taken == 0:
		return session.ErrNoRecord
	}
	r.Epoch++
	return nil
}

// Forget removes sessions that are over for good.
func (j *Journal) Forget(ctx context.Context, ids []string) error {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = JournalPrefix + id
	}
	err := j.redis.Del(ctx, keys...).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
