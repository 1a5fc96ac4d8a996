package session

import (
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// receiptWindow is for how many frames back a client may say when it heard
// them: ten seconds.
const receiptWindow = 512

// receipts remembers what a receipt needs: when the last frames of traced
// utterances were written. The session's lock guards it.
type receipts struct {
	written *[receiptWindow]writtenFrame // nil until a traced frame is written
	plays   *telemetry.Frames            // of the utterance that receipts last came for
	of      *telemetry.UtteranceTrace
	clock   clientClock
}

type writtenFrame struct {
	sequence uint64 // 0: none, or its receipt has come
	at       time.Time
	trace    *telemetry.UtteranceTrace
}

func (r *receipts) sent(sequence uint64, at time.Time, trace *telemetry.UtteranceTrace) {
	if r.written == nil {
		r.written = new([receiptWindow]writtenFrame)
	}
	r.written[sequence%receiptWindow] = writtenFrame{sequence, at, trace}
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
	r := &s.receipts
	if r.written == nil {
		return nil
	}
	for _, f := range m.Frames {
		if w := r.written[f.Sequence%receiptWindow]; w.sequence == f.Sequence {
			r.clock.heard(w.at, f.Received)
		}
	}
	for _, f := range m.Frames {
		w := &r.written[f.Sequence%receiptWindow]
		if f.Sequence == 0 || w.sequence != f.Sequence {
			s.hub.recorder.ReceiptIgnored()
			continue
		}
		if r.of != w.trace {
			r.plays.Close()
			r.plays, r.of = s.tracing.Play(w.trace), w.trace
		}
		off := r.clock.error()
		r.plays.Record(telemetry.FrameTimes{
			Sequence: f.Sequence, Start: f.Received.Add(-off.Offset), End: f.Played.Add(-off.Offset),
			Parent: w.trace.Spans().SpanID(f.Sequence), Clock: off,
		})
		w.sequence = 0
	}
	return nil
}

// clientClock estimates how far the client's clock is ahead. A frame cannot
// have arrived before it was written, and the fastest took about half of the
// fastest ping's round trip.
type clientClock struct {
	fastest   time.Duration // arrival by the client's clock less writing by ours: the least
	known     bool
	roundTrip time.Duration // the least; 0: no ping was answered yet
}

func (c *clientClock) heard(written, received time.Time) {
	if d := received.Sub(written); !c.known || d < c.fastest {
		c.fastest, c.known = d, true
	}
}

func (c *clientClock) ponged(roundTrip time.Duration) {
	if c.roundTrip == 0 || roundTrip < c.roundTrip {
		c.roundTrip = roundTrip
	}
}

// error takes the client's clock to tell whole milliseconds.
func (c *clientClock) error() telemetry.ClockError {
	return telemetry.ClockError{Offset: c.fastest - c.roundTrip/2, Bound: c.roundTrip/2 + time.Millisecond}
}
