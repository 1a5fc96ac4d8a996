package session

import (
	"sync"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// queue is the bounded row of frames between a worker and a client. An entry
// is a frame or the end of an utterance. Its memory is taken from a pool while
// there is something to speak. The session's lock guards it.
type queue struct {
	pool    *queuePool
	memory  *queueMemory // nil while nothing is queued
	head, n int
}

type entry struct {
	message   []byte               // the frame, encoded in the entry's own slot of the queue's memory
	received  time.Time            // from the worker
	emitted   int64                // by the worker, Unix nanoseconds, or 0
	queued    time.Time            // of a frame whose times are wanted
	parent    telemetry.SpanParent // of its span
	utterance *utterance
	end       bool  // no frame: the utterance is over
	err       error // why, when it failed
}

// queueMemory is one allocation of slots, pooled whole.
type queueMemory struct {
	entries  []entry
	messages []byte
}

// queuePool hands out the memory of queues of one length.
type queuePool struct {
	length int
	free   sync.Pool
}

func newQueuePool(length int) *queuePool {
	p := &queuePool{length: length}
	p.free.New = func() any {
		return &queueMemory{make([]entry, length), make([]byte, length*maxAudioMessage)}
	}
	return p
}

func (q *queue) full() bool { return q.n == q.pool.length }

// low reports whether a speaker that waited on a full queue should go on:
// at half, so that it wakes once for many frames.
func (q *queue) low() bool { return q.n <= q.pool.length/2 }

func (q *queue) push() *entry {
	if q.memory == nil {
		q.memory = q.pool.free.Get().(*queueMemory)
	}
	i := (q.head + q.n) % q.pool.length
	q.n++
	return &q.memory.entries[i]
}

// pushFrame encodes the frame into the queue, at the time now. The queue must
// not be full.
func (q *queue) pushFrame(u *utterance, f Frame, inBinary bool, now time.Time) {
	i := (q.head + q.n) % q.pool.length
	e := q.push()
	slot := q.memory.messages[i*maxAudioMessage : i*maxAudioMessage : (i+1)*maxAudioMessage]
	*e = entry{message: encodeAudio(slot, f.PCM, inBinary), received: f.Received, emitted: f.Emitted, utterance: u}
	if u.timed {
		e.queued, e.parent = now, u.spans.Parent(f.Traceparent)
	}
}

// pushEnd marks the end of the utterance. The queue must not be full.
func (q *queue) pushEnd(u *utterance, err error) {
	*q.push() = entry{utterance: u, end: true, err: err}
}

// front returns the oldest entry, valid until pop, or nil.
func (q *queue) front() *entry {
	if q.n == 0 {
		return nil
	}
	return &q.memory.entries[q.head]
}

func (q *queue) pop() {
	q.memory.entries[q.head] = entry{}
	q.head = (q.head + 1) % q.pool.length
	q.n--
	if q.n == 0 {
		q.release()
	}
}

// clear drops all entries and returns how many frames were among them.
func (q *queue) clear() (frames int) {
	for e := q.front(); e != nil; e = q.front() {
		if !e.end {
			frames++
		}
		q.pop()
	}
	return frames
}

func (q *queue) release() {
	q.pool.free.Put(q.memory)
	q.memory, q.head = nil, 0
}
