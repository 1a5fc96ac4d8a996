package session

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// queue is the bounded row of frames between a worker and a client. An entry is
// a frame or the end of an utterance. Its memory is taken from a pool while there
// is something to speak. What was written stays where it is until it is noted, or
// its place is needed: to look at many frames at once costs a part of looking at
// each. The session's lock guards it.
type queue struct {
	pool    *queuePool
	entries []entry // a ring; nil while nothing is queued
	head, n int
	unnoted int // entries before head
	mark    int // with so many left the speaker that waits goes on; nobodyRests: none waits
}

const nobodyRests = -1

// entry lies with its message, and has no pointers.
type entry struct {
	times
	size    int32                 // of the message; 0: it is no frame, the utterance is over
	message [maxAudioMessage]byte // the frame, encoded
}

// times are a frame's way through the edge, since the hub began.
type times struct {
	received time.Duration // from the worker
	queued   time.Duration
	written  time.Duration
	late     time.Duration        // that it was written after it was due
	emitted  int64                // by the worker, Unix nanoseconds, or 0
	parent   telemetry.SpanParent // of its span, where it has one
	depth    int32                // of the queue when it was written
}

// queuePool hands out the memory of queues of one length.
type queuePool struct {
	length int
	free   sync.Pool
}

func newQueuePool(length int) *queuePool {
	p := &queuePool{length: length}
	p.free.New = func() any {
		entries := make([]entry, length)
		return &entries
	}
	return p
}

func (q *queue) full() bool { return q.n == q.pool.length }

// rest picks with how many frames left a speaker that waits on a full queue is to go
// on: about half, so that it wakes once for many frames, and each time another number.
// Sessions that began to speak together would otherwise have their queues filled together
// for as long as they speak, and the clock's frames wait behind such a burst.
func (q *queue) rest() {
	third := (q.pool.length + 1) / 3
	q.mark = third + rand.IntN(max(1, q.pool.length-2*third)) //nolint:gosec // no secret
}

// restHalf has a speaker that rests go on when half of what is queued is left.
func (q *queue) restHalf() { q.mark = q.n / 2 }

// rested says that the speaker goes on.
func (q *queue) rested() { q.mark = nobodyRests }

// rests reports whether a speaker waits.
func (q *queue) rests() bool { return q.mark != nobodyRests }

// low reports whether a speaker that waits should go on.
func (q *queue) low() bool { return q.n <= q.mark }

// half reports whether there is as much room as there are entries, or more.
func (q *queue) half() bool { return q.n <= q.pool.length/2 }

// crowded reports whether what was written must be noted before there is room
// for more, in a queue that is not full.
func (q *queue) crowded() bool { return q.n+q.unnoted == q.pool.length }

// push returns the entry behind the last. The queue must be neither full nor crowded.
func (q *queue) push() *entry {
	if q.entries == nil {
		q.entries = *q.pool.free.Get().(*[]entry)
	}
	q.n++
	return q.at(q.n - 1)
}

// at returns the entry so many behind the front.
func (q *queue) at(i int) *entry {
	return &q.entries[(q.head+i+q.pool.length)%q.pool.length]
}

// pushFrame encodes the frame into the queue.
func (q *queue) pushFrame(f Frame, inBinary bool) *entry {
	e := q.push()
	e.size = int32(len(encodeAudio(e.message[:0], f.PCM, inBinary))) //nolint:gosec // at most maxAudioMessage
	e.emitted = f.Emitted
	return e
}

// pushEnd marks the end of the utterance.
func (q *queue) pushEnd() { q.push().size = 0 }

func (e *entry) end() bool { return e.size == 0 }

// front returns the oldest entry that waits, or nil.
func (q *queue) front() *entry {
	if q.n == 0 {
		return nil
	}
	return q.at(0)
}

// pop takes the front out of the queue; it is valid until it is noted.
func (q *queue) pop() {
	q.head = (q.head + 1) % q.pool.length
	q.n--
	q.unnoted++
}

// drop forgets the front. All before it must be noted.
func (q *queue) drop() {
	q.pop()
	q.noted()
}

// noted says that nobody needs what was written.
func (q *queue) noted() {
	q.unnoted = 0
	if q.n == 0 && q.entries != nil {
		entries := q.entries
		q.pool.free.Put(&entries)
		q.entries, q.head = nil, 0
	}
}

// clear drops all entries and returns how many frames were among them. All that
// was written must be noted.
func (q *queue) clear() (frames int) {
	for e := q.front(); e != nil; e = q.front() {
		if !e.end() {
			frames++
		}
		q.drop()
	}
	return frames
}
