package clients

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/session"
)

// JournalPrefix is that of the keys that hold sessions' records.
const JournalPrefix = "voxedge:session:"

// Journal keeps sessions' records in Redis, each a hash of its epoch and its
// JSON. It is a session.Journal.
type Journal struct {
	redis  *redis.Client
	window time.Duration
	edge   string // names this edge to others
	taken  chan session.Taken
	back   chan struct{} // Redis is, after it was away
}

var _ session.Journal = (*Journal)(nil)

// saveDelay is how late a living session's record may be saved again.
const saveDelay = 2 * time.Second

// NewJournal returns a journal for sessions that can be resumed for the window.
// Records of living sessions are saved anew when that has passed.
func NewJournal(client *redis.Client, window time.Duration) *Journal {
	return &Journal{client, window, rand.Text(), make(chan session.Taken, 64), make(chan struct{}, 1)}
}

// EdgeChannel is the prefix of the channels on which an edge hears that one of
// its sessions was taken, as "<session> <epoch>".
const EdgeChannel = "voxedge:edge:"

// Run hears of sessions that other edges take, and of Redis' returns, until ctx is done.
func (j *Journal) Run(ctx context.Context) {
	subscription := j.redis.Subscribe(ctx, EdgeChannel+j.edge)
	defer func() { _ = subscription.Close() }()
	messages := subscription.ChannelWithSubscriptions()
	for connected := false; ; {
		select {
		case message, open := <-messages:
			if !open {
				return
			}
			m, ok := message.(*redis.Message)
			if !ok { // it is subscribed; once more when the connection was lost
				if connected {
					j.reconnected()
				}
				connected = true
				continue
			}
			id, epoch, _ := strings.Cut(m.Payload, " ")
			n, err := strconv.ParseInt(epoch, 10, 64)
			if err != nil {
				continue // it is not from an edge
			}
			select {
			case j.taken <- session.Taken{ID: id, Epoch: n}:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (j *Journal) reconnected() {
	select {
	case j.back <- struct{}{}:
	default:
	}
}

// Reconnected yields when Redis was away, while Run runs.
func (j *Journal) Reconnected() <-chan struct{} { return j.back }

// Taken yields the sessions of this edge that others have taken, while Run runs.
func (j *Journal) Taken() <-chan session.Taken { return j.taken }

// save leaves alone what an edge with a newer epoch owns: one above ARGV[4], or
// the same that another edge has taken while this one could not ask. Another edge
// that owned it until now, and lives, is told.
var save = redis.NewScript(`
local old = redis.call("HMGET", KEYS[1], "epoch", "edge")
if old[1] and (tonumber(old[1]) > tonumber(ARGV[4]) or old[1] == ARGV[1] and old[2] ~= ARGV[5]) then return 0 end
redis.call("HSET", KEYS[1], "epoch", ARGV[1], "record", ARGV[2], "edge", ARGV[5])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
if old[2] and old[2] ~= ARGV[5] then redis.call("PUBLISH", ARGV[6] .. old[2], ARGV[7] .. " " .. old[1]) end
return 1`)

// Save stores the records in one round trip.
func (j *Journal) Save(ctx context.Context, records []session.Record) (superseded []session.Taken, err error) {
	calls := make([]call, len(records))
	for i := range records {
		if calls[i], err = j.saving(&records[i], records[i].Epoch); err != nil {
			return nil, err
		}
	}
	replies, err := j.together(ctx, save, calls)
	if err != nil {
		return nil, err
	}
	for i, reply := range replies {
		if stored, _ := reply.(*redis.Cmd).Int(); stored == 0 {
			superseded = append(superseded, session.Taken{ID: records[i].ID, Epoch: records[i].Epoch})
		}
	}
	return superseded, nil
}

// call is one of a script.
type call struct {
	keys []string
	args []any
}

// saving is a call of save.
func (j *Journal) saving(r *session.Record, unlessAbove int64) (call, error) {
	ttl := j.window
	if !r.Lost {
		ttl += j.window + saveDelay
	}
	data, err := json.Marshal(r)
	return call{[]string{JournalPrefix + r.ID}, []any{r.Epoch, data, ttl.Milliseconds(), unlessAbove, j.edge, EdgeChannel, r.ID}}, err
}

// together makes calls of a script in one round trip, by its hash: the text of save is as
// long as a record. Where a Redis does not know it they are made once more with the text,
// which it then keeps; each server behind a proxy does that for itself.
func (j *Journal) together(ctx context.Context, script *redis.Script, calls []call) (replies []redis.Cmder, err error) {
	for _, eval := range []func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd{script.EvalSha, script.Eval} {
		pipe := j.redis.Pipeline()
		for _, c := range calls {
			eval(ctx, pipe, c.keys, c.args...)
		}
		replies, err = pipe.Exec(ctx)
		if !slices.ContainsFunc(replies, unknownScript) {
			break
		}
	}
	return replies, err
}

func unknownScript(reply redis.Cmder) bool { return redis.HasErrorPrefix(reply.Err(), "NOSCRIPT") }

// Load returns a session's record, or session.ErrNoRecord.
func (j *Journal) Load(ctx context.Context, id string) (r session.Record, err error) {
	data, err := j.redis.HGet(ctx, JournalPrefix+id, "record").Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return r, session.ErrNoRecord
	case err != nil:
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// Take makes the record the caller's, or fails with session.ErrTaken.
func (j *Journal) Take(ctx context.Context, r *session.Record) error {
	mine := *r
	mine.Epoch++
	c, err := j.saving(&mine, r.Epoch)
	if err != nil {
		return err
	}
	taken, err := save.Run(ctx, j.redis, c.keys, c.args...).Int()
	switch {
	case err != nil:
		return err
	case taken == 0:
		return session.ErrTaken
	}
	*r = mine
	return nil
}

// forget leaves alone what an edge with a newer epoch owns.
var forget = redis.NewScript(`
local epoch = redis.call("HGET", KEYS[1], "epoch")
if epoch and tonumber(epoch) <= tonumber(ARGV[1]) then return redis.call("DEL", KEYS[1]) end
return 0`)

// Forget removes sessions that are over for good, in one round trip.
func (j *Journal) Forget(ctx context.Context, over map[string]int64) error {
	calls := make([]call, 0, len(over))
	for id, epoch := range over {
		calls = append(calls, call{[]string{JournalPrefix + id}, []any{epoch}})
	}
	_, err := j.together(ctx, forget, calls)
	return err
}
