package telemetry

import (
	"sync"
	"sync/atomic"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
)

// chunkRecords is how many frames one piece of memory holds: at 20 ms a frame,
// somewhat more than a second.
const chunkRecords = 64

// record is FrameTimes as it waits for the exporter.
type record struct {
	sequence           uint64
	start, queued, end int64 // Unix nanoseconds; Play: queued is the clock's offset
	parent             SpanParent
	extra              int64 // Forward: depth; Play: the bound of the clock's error, nanoseconds
}

// chunk is a part of an utterance's records. One goroutine writes them, and the
// exporter reads those that are published.
type chunk struct {
	records   *[chunkRecords]record // apart: the collector does not look into what has no pointers
	published atomic.Int32
	next      atomic.Pointer[chunk]
}

// block holds spans of the SDK, encoded as elements of ScopeSpans.spans.
type block struct {
	scope *commonpb.InstrumentationScope
	spans []byte
	n     int
}

const (
	chunkBytes = chunkRecords*48 + 32
	blockBytes = 16 << 10
	// utteranceBytes is kept free for the spans of an utterance that are the
	// SDK's, its root and its calls, for as long as it is spoken.
	utteranceBytes = 2 << 10
)

// buffer bounds the memory of all that waits to be sent.
type buffer struct {
	limit   int64 // bytes
	used    atomic.Int64
	givenUp atomic.Int64 // utterances for which there was no memory
	free    sync.Pool
}

func newBuffer(bytes int) *buffer {
	return &buffer{limit: int64(bytes), free: sync.Pool{New: func() any { return &chunk{records: new([chunkRecords]record)} }}}
}

// reserve takes memory, if there is so much. Of all there is, frames and new
// utterances leave an eighth to the SDK's spans, so that what is recorded of an
// utterance does not stay without its root.
func (b *buffer) reserve(bytes int64, forSDK bool) bool {
	limit := b.limit
	if !forSDK {
		limit -= limit / 8
	}
	if b.used.Add(bytes) > limit {
		b.used.Add(-bytes)
		return false
	}
	return true
}

func (b *buffer) release(bytes int64) { b.used.Add(-bytes) }

// take returns an empty chunk, or nil when there is no memory.
func (b *buffer) take() *chunk {
	if !b.reserve(chunkBytes, false) {
		return nil
	}
	return b.free.Get().(*chunk)
}

func (b *buffer) give(c *chunk) {
	c.published.Store(0)
	c.next.Store(nil)
	b.free.Put(c)
	b.release(chunkBytes)
}
