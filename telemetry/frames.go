package telemetry

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Stage is a part of a frame's way that has a span of its own.
type Stage uint8

// The stages, in order.
const (
	Synthesize Stage = iota // in the worker
	Forward                 // in the edge
	Play                    // in the client
)

// FrameTimes is one frame at one stage. Times are Unix nanoseconds.
type FrameTimes struct {
	Sequence uint64
	Start    int64
	Queued   int64      // Forward: when it was put in the session's queue
	End      int64      // not before Start
	Depth    int        // Forward: frames in the queue when this one left, itself included
	Parent   SpanParent // of the stage before; the zero value is the utterance's span
	Clock    ClockError // Play: how the client's clock was corrected
}

// ClockError is what is known of another machine's clock.
type ClockError struct {
	Offset time.Duration // that its clock is ahead of ours; already taken off the times
	Bound  time.Duration // that Offset may be wrong by
}

// SpanParent is the id of a span in the same trace, or zero.
type SpanParent [8]byte

// Frames takes down one stage of one utterance's frames. Record, Publish and
// Close belong to one goroutine at a time. A nil Frames takes down nothing.
type Frames struct {
	at      int32 // in writing's records
	stage   Stage
	givenUp atomic.Bool  // there was no memory: its spans are not sent any more
	counted *atomic.Bool // that the utterance was, at one stage or another
	closed  atomic.Bool
	seed    uint64 // of the spans' ids
	writing *chunk
	buffer  *buffer

	trace    trace.TraceID
	traceHex [32]byte
	parent   SpanParent // of frames that have none of their own

	reading *chunk    // the exporter's
	read    int       // in it
	form    *spanForm // of its spans
}

func newFrames(b *buffer, stage Stage, parent trace.SpanContext, counted *atomic.Bool) *Frames {
	first := b.take()
	f := &Frames{
		buffer: b, stage: stage, counted: counted, trace: parent.TraceID(), parent: SpanParent(parent.SpanID()),
		seed: rand.Uint64(), writing: first, reading: first, //nolint:gosec // an id, not a secret
	}
	hex.Encode(f.traceHex[:], f.trace[:])
	if first == nil {
		f.giveUp()
	}
	return f
}

// Record takes down one frame; it is sent once it is published. It does not wait
// and does not allocate.
func (f *Frames) Record(t FrameTimes) {
	if f == nil || f.givenUp.Load() {
		return
	}
	if f.at == chunkRecords {
		next := f.buffer.take()
		if next == nil {
			f.giveUp()
			return
		}
		f.Publish()
		f.writing.next.Store(next)
		f.writing, f.at = next, 0
	}
	r := &f.writing.records[f.at]
	r.sequence, r.start, r.parent = t.Sequence, t.Start, t.Parent
	r.end = max(t.End, t.Start+1) // Jaeger takes an empty span for a mistake
	switch f.stage {
	case Forward:
		r.queued, r.extra = t.Queued, int64(t.Depth)
	case Play:
		r.queued, r.extra = int64(t.Clock.Offset), int64(t.Clock.Bound)
	case Synthesize:
	}
	f.at++
}

// Publish has the frames that are recorded sent. It is dearer than Record, for
// what it says must reach another core.
func (f *Frames) Publish() {
	if f != nil && !f.givenUp.Load() {
		f.writing.published.Store(f.at)
	}
}

// giveUp has none of the utterance's frames sent any more at this stage.
func (f *Frames) giveUp() {
	f.givenUp.Store(true)
	if f.counted.CompareAndSwap(false, true) {
		f.buffer.givenUp.Add(1)
	}
}

// Close says that no frame follows.
func (f *Frames) Close() {
	if f != nil {
		f.Publish()
		f.closed.Store(true)
	}
}

// GivenUp reports whether there was no memory for all frames.
func (f *Frames) GivenUp() bool { return f != nil && f.givenUp.Load() }

// SpanID returns the id of the frame's span.
func (f *Frames) SpanID(sequence uint64) SpanParent {
	x := f.seed + sequence*0x9e3779b97f4a7c15 // the steps of SplitMix64: no two frames have the same
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	if x == 0 { // is no id
		x = 1
	}
	return SpanParent{byte(x >> 56), byte(x >> 48), byte(x >> 40), byte(x >> 32), byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)}
}

// Traceparent returns the W3C context of the frame's span.
func (f *Frames) Traceparent(sequence uint64) string {
	if f == nil {
		return ""
	}
	id := f.SpanID(sequence)
	b := append(make([]byte, 0, traceparentLength), "00-"...)
	b = append(b, f.traceHex[:]...)
	b = append(b, '-')
	b = hex.AppendEncode(b, id[:])
	return string(append(b, "-01"...))
}

const traceparentLength = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")

// Parent reads the W3C context of a span that is to be a frame's parent. One
// that is not of this trace, or that nobody will send, is none.
func (f *Frames) Parent(traceparent []byte) (parent SpanParent) {
	const idAt, parentAt, flagsAt = 3, 36, 53
	if f == nil || len(traceparent) != traceparentLength || string(traceparent[:idAt]) != "00-" ||
		!bytes.Equal(traceparent[idAt:parentAt-1], f.traceHex[:]) || traceparent[parentAt-1] != '-' {
		return SpanParent{}
	}
	var flags [1]byte
	if _, err := hex.Decode(flags[:], traceparent[flagsAt:]); err != nil || !trace.TraceFlags(flags[0]).IsSampled() {
		return SpanParent{}
	}
	if _, err := hex.Decode(parent[:], traceparent[parentAt:parentAt+16]); err != nil {
		return SpanParent{}
	}
	return parent
}
