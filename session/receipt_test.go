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
			r.sent(last, time.Now(), trace)
			written[last] = trace
		}
		last += uint64(i * 13 % 90) // not traced
		for sequence := range last + 2 {
			w := r.find(sequence, last)
			want := written[sequence]
			if sequence+receiptWindow <= last {
				want = nil
			}
			switch {
			case w == nil && want == nil:
			case w == nil || want == nil:
				t.Fatalf("frame %d after %d: found %v, want %v", sequence, last, w, want)
			case r.traceOf(sequence) != want:
				t.Fatalf("frame %d after %d belongs to another utterance", sequence, last)
			}
		}
	}
	if len(r.utterances) > receiptWindow {
		t.Errorf("%d utterances are remembered", len(r.utterances))
	}
}
