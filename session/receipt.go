package session

import (
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// For how many frames back a client may say when it heard them. The window grows
// while frames would fall out of it unheard: to 40 seconds for a client that may
// never say, and to five minutes, which take 128 KB, for one that has said.
const (
	firstWindow = 512
	silentLimit = 2048
	toldLimit   = 16384
)

// receipts remembers what a receipt needs: when the last frames of traced
// utterances were written. The session's lock guards it.
type receipts struct {
	written    []int64                   // a ring of Unix nanoseconds; 0: not traced, or its receipt has come
	last       uint64                    // sequence of the last that is in it
	told       bool                      // a receipt has come
	utterances []tracedUtterance         // of the written frames, in order
	writing    *telemetry.UtteranceTrace // the last of them
	plays      *telemetry.Frames         // of the utterance that receipts last came for
	of         *telemetry.UtteranceTrace
	clock      clientClock
}

type tracedUtterance struct {
	first uint64 // sequence of its first traced frame
	trace *telemetry.UtteranceTrace
}

func (r *receipts) sent(sequence uint64, at int64, trace *telemetry.UtteranceTrace) {
	if r.written == nil {
		r.written = make([]int64, firstWindow)
	}
	for missed := max(r.last+1, sequence-min(sequence, uint64(len(r.written)))); missed < sequence; missed++ {
		*r.slot(missed) = 0
	}
	if *r.slot(sequence) != 0 {
		r.grow(sequence)
	}
	if r.writing != trace {
		r.writing = trace
		for len(r.utterances) > 1 && r.utterances[1].first+uint64(len(r.written)) <= sequence {
			r.utterances = r.utterances[1:]
		}
		r.utterances = append(r.utterances, tracedUtterance{sequence, trace})
	}
	*r.slot(sequence), r.last = at, sequence
}

func (r *receipts) slot(sequence uint64) *int64 {
	return &r.written[sequence&uint64(len(r.written)-1)] // the length is a power of two
}

// grow doubles the window for the frame to come, unless it is at its limit.
func (r *receipts) grow(next uint64) {
	limit := silentLimit
	if r.told {
		limit = toldLimit
	}
	if len(r.written) >= limit {
		return
	}
	before := receipts{written: r.written}
	r.written = make([]int64, 2*len(r.written))
	oldest := next - uint64(len(before.written)) // of what is older, the utterance is forgotten
	for sequence := oldest; sequence <= r.last; sequence++ {
		*r.slot(sequence) = *before.slot(sequence)
	}
}

// find returns a traced frame that is not further back than the window from
// the last one written, or nil.
func (r *receipts) find(sequence, last uint64) *int64 {
	if r.written == nil || sequence == 0 || sequence > r.last || sequence+uint64(len(r.written)) <= last {
		return nil
	}
	if w := r.slot(sequence); *w != 0 {
		return w
	}
	return nil
}

// traceOf returns the utterance of a frame that was found.
func (r *receipts) traceOf(sequence uint64) *telemetry.UtteranceTrace {
	i := len(r.utterances) - 1
	for r.utterances[i].first > sequence {
		i--
	}
	return r.utterances[i].trace
}

// receipt ends the traces of frames with what the client says of them. Frames
// that are not traced, or whose receipt came before or comes too late, are left
// out. The lock is held.
func (s *Session) receipt(m Receipt) *Error {
	for _, f := range m.Frames {
		if f.Sequence > s.sequence {
			return Errorf(InvalidMessage, "Send the sequence of frames as you received them", "the receipt is for frame %d, but the last one sent is %d", f.Sequence, s.sequence)
		}
	}
	s.note()
	r := s.receipts
	if r == nil || r.written == nil {
		return nil
	}
	defer func() { r.plays.Publish() }()
	r.told = true
	if !r.plausible(m, s.sequence, time.Now()) {
		return Errorf(InvalidMessage, howReceipt, "the receipt's times cannot be: by them frames arrived before they were sent, or are yet to come")
	}
	for _, f := range m.Frames {
		w := r.find(f.Sequence, s.sequence)
		if w == nil {
			s.hub.recorder.ReceiptIgnored()
			continue
		}
		if trace := r.traceOf(f.Sequence); r.of != trace {
			r.plays.Close()
			r.plays, r.of = s.tracing.Play(trace), trace
		}
		off := r.clock.error()
		r.plays.Record(telemetry.FrameTimes{
			Sequence: f.Sequence, Start: f.Received.Add(-off.Offset).UnixNano(), End: f.Played.Add(-off.Offset).UnixNano(),
			Parent: r.of.Spans().SpanID(f.Sequence), Clock: off,
		})
		*w = 0
	}
	return nil
}

// plausible reports whether the receipt's times may be true, and learns of the
// client's clock from them.
func (r *receipts) plausible(m Receipt, last uint64, now time.Time) bool {
	var told offsets
	var played time.Time
	for _, f := range m.Frames {
		w := r.find(f.Sequence, last)
		if w == nil {
			continue
		}
		// It arrived after it was written and before now.
		frame := offsets{least: f.Received.Sub(now), most: f.Received.Sub(time.Unix(0, *w)), known: true}
		if !told.known {
			told = frame
		}
		told.least, told.most = max(told.least, frame.least), min(told.most, frame.most)
		if f.Played.After(played) {
			played = f.Played
		}
	}
	if !told.known {
		return true // of no frame that matters
	}
	return told.least <= told.most+clockTolerance && played.Sub(now) <= told.most+maxPlayAhead && r.clock.heard(told)
}

const (
	// clockTolerance is what clocks of millisecond steps and of some drift may
	// contradict themselves by.
	clockTolerance = 100 * time.Millisecond
	// maxPlayAhead is how far ahead a client may say when it will have played.
	maxPlayAhead = time.Minute
	// maxDoubts is how many receipts in a row must contradict what is known of the
	// client's clock to show that it was set anew.
	maxDoubts = 3
)

// offsets are how far the client's clock may be ahead.
type offsets struct {
	least, most time.Duration
	known       bool
}

// clientClock estimates how far the client's clock is ahead. A frame cannot
// have arrived before it was written, and the fastest took about half of the
// fastest ping's round trip.
type clientClock struct {
	offsets
	confirmed bool // by a second receipt
	doubts    int
	roundTrip time.Duration // the least; 0: no ping was answered yet
}

// heard takes what a receipt shows, and reports whether it agrees with those before.
func (c *clientClock) heard(told offsets) bool {
	agrees := told.least <= c.most+clockTolerance && told.most >= c.least-clockTolerance
	switch {
	case !c.known, !agrees && (!c.confirmed || c.doubts+1 >= maxDoubts):
		c.offsets, c.confirmed = told, false
	case !agrees:
		c.doubts++
		return false
	default:
		c.confirmed = true
		c.least, c.most = max(c.least, told.least), min(c.most, told.most)
		if c.least > c.most { // one clock is faster than the other
			c.offsets = told
		}
	}
	c.doubts = 0
	return true
}

func (c *clientClock) ponged(roundTrip time.Duration) {
	if c.roundTrip == 0 || roundTrip < c.roundTrip {
		c.roundTrip = roundTrip
	}
}

// error takes the client's clock to tell whole milliseconds.
func (c *clientClock) error() telemetry.ClockError {
	return telemetry.ClockError{Offset: c.most - c.roundTrip/2, Bound: c.roundTrip/2 + time.Millisecond}
}
