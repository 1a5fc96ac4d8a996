package session

import (
	"testing"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// Between traced utterances are others that are not, so what is remembered may
// be older than the window; a client may name any of it.
func TestReceiptsFindTheirUtteranceOrNothing(t *testing.T) {
	var r receipts
	written := map[uint64]*telemetry.UtteranceTrace{}
	last := uint64(0)
	for i := range 200 {
		trace := new(telemetry.UtteranceTrace)
		for range 1 + i*7%40 {
			last++
			r.sent(last, time.Now().UnixNano(), trace)
			written[last] = trace
		}
		last += uint64(i * 13 % 90) // not traced
		for sequence := range last + 2 {
			w := r.find(sequence, last)
			want := written[sequence]
			switch {
			case w == nil && want != nil && sequence+firstWindow > last:
				t.Fatalf("frame %d after %d is forgotten", sequence, last)
			case w != nil && (want == nil || sequence+uint64(len(r.written)) <= last):
				t.Fatalf("frame %d after %d: found %v", sequence, last, w)
			case w != nil && r.traceOf(sequence) != want:
				t.Fatalf("frame %d after %d belongs to another utterance", sequence, last)
			}
		}
	}
	if len(r.utterances) > len(r.written) || len(r.written) > silentLimit {
		t.Errorf("%d utterances and %d frames are remembered", len(r.utterances), len(r.written))
	}
}

// A client that takes its time with receipts, or hears much at once, is waited for.
func TestReceiptsMayComeLate(t *testing.T) {
	for _, tt := range []struct {
		told          bool
		frames, known uint64
	}{{false, 1000, 1000}, {false, 5000, silentLimit}, {true, 5000, 5000}, {true, 50_000, toldLimit}} {
		r := receipts{told: tt.told}
		trace := new(telemetry.UtteranceTrace)
		for sequence := range tt.frames {
			r.sent(sequence+1, time.Now().UnixNano(), trace)
		}
		known := uint64(0)
		for sequence := range tt.frames {
			if r.find(sequence+1, tt.frames) != nil {
				known++
			}
		}
		if known != tt.known {
			t.Errorf("of %d frames %d are known, want %d", tt.frames, known, tt.known)
		}
	}
}

// A receipt whose times cannot be is refused, and does not spoil what is known
// of the client's clock; a clock that was set anew is followed.
func TestTheClientsClockIsHeldToWhatCanBe(t *testing.T) {
	const ahead, transit = 90 * time.Minute, 20 * time.Millisecond
	now := time.Now()
	var r receipts
	sequence := uint64(0)
	// receipt is of one frame, written a second ago, by a clock so far ahead.
	receipt := func(ahead time.Duration) (Receipt, uint64) {
		sequence++
		r.sent(sequence, now.Add(-time.Second).UnixNano(), new(telemetry.UtteranceTrace))
		arrived := now.Add(-time.Second + transit + ahead)
		return Receipt{[]HeardFrame{{sequence, arrived, arrived.Add(200 * time.Millisecond)}}}, sequence
	}
	tell := func(what string, m Receipt, last uint64, want bool) {
		t.Helper()
		if got := r.plausible(m, last, now); got != want {
			t.Errorf("%s: plausible is %v", what, got)
		}
	}
	m, last := receipt(ahead)
	m.Frames[0].Played = m.Frames[0].Played.AddDate(31, 0, 0)
	tell("played in 31 years", m, last, false)
	m, last = receipt(-500 * time.Hour)
	tell("the first, wrong", m, last, true)
	for range 2 {
		m, last = receipt(ahead)
		tell("right from the second on", m, last, true)
	}
	for _, wrong := range []time.Duration{-500 * time.Hour, 2 * ahead} {
		m, last = receipt(wrong)
		tell("another clock", m, last, false)
		m, last = receipt(ahead)
		tell("the right one again", m, last, true)
	}
	m, _ = receipt(ahead)
	other, last := receipt(0)
	m.Frames = append(m.Frames, other.Frames...)
	tell("two clocks", m, last, false)
	if off := r.clock.error().Offset; off != ahead+transit {
		t.Errorf("the clock is %s ahead, want %s", off, ahead+transit)
	}
	for i := range maxDoubts {
		m, last = receipt(-ahead)
		tell("a clock set anew", m, last, i == maxDoubts-1)
	}
	if off := r.clock.error().Offset; off != -ahead+transit {
		t.Errorf("the clock is %s ahead, want %s", off, -ahead+transit)
	}
}

// An hour of a clock that is a second faster moves the estimate, and no receipt
// is refused.
func TestTheClientsClockMayDrift(t *testing.T) {
	var r receipts
	began := time.Now()
	for i := range 3600 {
		written := began.Add(time.Duration(i) * time.Second)
		ahead := time.Duration(i) * time.Second / 3600
		r.sent(uint64(i)+1, written.UnixNano(), new(telemetry.UtteranceTrace))
		arrived := written.Add(30*time.Millisecond + ahead)
		if !r.plausible(Receipt{[]HeardFrame{{uint64(i) + 1, arrived, arrived}}}, uint64(i)+1, written.Add(50*time.Millisecond)) {
			t.Fatalf("after %ds its receipt is refused", i)
		}
	}
	if off := r.clock.error().Offset; off < 950*time.Millisecond || off > 1050*time.Millisecond {
		t.Errorf("the clock is %s ahead, want about 1s", off)
	}
}
