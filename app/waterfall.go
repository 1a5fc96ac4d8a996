package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// waterfall shows where the time of an utterance's frames went, from what the
// edge tells of each and what the client saw itself.
type waterfall struct {
	traceparent string // of the session's opening
	traceID     string // of the utterance; empty when the edge does not trace it
	accepted    time.Time
	frames      []frameTimes
	heard       map[uint64]time.Time // by the client's clock
	unsaid      [][3]float64         // receipts
	playedUntil time.Time
	pinged      time.Time
	roundTrip   time.Duration
}

// frameTimes is one frame on its way, by the edge's clock.
type frameTimes struct {
	sequence                           uint64
	emitted, received, queued, written time.Time // emitted is zero where the worker does not say
	depth                              int64
}

// timings is the edge's message of that name.
type timings struct {
	TraceID  string     `json:"trace_id"`
	Accepted int64      `json:"accepted_unix_us"`
	Frames   [][6]int64 `json:"frames"`
}

func (w *waterfall) take(t timings) {
	w.traceID, w.accepted = t.TraceID, time.UnixMicro(t.Accepted)
	for _, f := range t.Frames {
		times := frameTimes{sequence: uint64(f[0]), received: time.UnixMicro(f[2]), queued: time.UnixMicro(f[3]), written: time.UnixMicro(f[4]), depth: f[5]} //nolint:gosec // a count
		if f[1] != 0 {
			times.emitted = time.UnixMicro(f[1])
		}
		w.frames = append(w.frames, times)
	}
}

// frame takes down that a frame has arrived; it is played when those before it
// have been.
func (w *waterfall) frame(sequence uint64, now time.Time, playing bool) {
	w.heard[sequence] = now
	played := now
	if playing && w.playedUntil.After(now) {
		played = w.playedUntil
	}
	w.playedUntil = played.Add(20 * time.Millisecond)
	millis := func(t time.Time) float64 { return float64(t.UnixMicro()) / 1000 }
	w.unsaid = append(w.unsaid, [3]float64{float64(sequence), millis(now), millis(played)})
}

// receiptBatch is how many frames are told of at once.
const receiptBatch = 50

// tell sends the receipts that are due, so that the trace ends where the frame did.
func (w *waterfall) tell(ctx context.Context, ws *websocket.Conn, all bool) error {
	if len(w.unsaid) == 0 || len(w.unsaid) < receiptBatch && !all {
		return nil
	}
	data, err := json.Marshal(map[string]any{"type": "receipt", "frames": w.unsaid})
	if err != nil {
		return err
	}
	w.unsaid = w.unsaid[:0]
	return ws.Write(ctx, websocket.MessageText, data)
}

func (w *waterfall) ping(ctx context.Context, ws *websocket.Conn) error {
	w.pinged = time.Now()
	return ws.Write(ctx, websocket.MessageText, []byte(`{"type":"ping"}`))
}

// stages are the parts of a frame's way, and how each is drawn.
var stages = []struct {
	name string
	mark rune
}{
	{"worker to edge, or held back", '·'}, {"wait for room in the queue", '▒'}, {"wait for its time", '░'}, {"edge to client", '█'},
}

// spans returns when each stage of the frame began, and when the last ended.
func (w *waterfall) spans(f frameTimes, offset time.Duration) []time.Time {
	emitted := f.emitted
	if emitted.IsZero() || emitted.After(f.received) { // unknown, or by a clock that is ahead
		emitted = f.received
	}
	arrived := f.written
	if heard, ok := w.heard[f.sequence]; ok {
		arrived = heard.Add(-offset)
	}
	return []time.Time{emitted, f.received, f.queued, f.written, arrived}
}

// clockOffset is how far the client's clock is ahead of the edge's: the
// fastest frame took half of a round trip.
func (w *waterfall) clockOffset() time.Duration {
	fastest := time.Duration(1<<63 - 1)
	for _, f := range w.frames {
		if heard, ok := w.heard[f.sequence]; ok {
			fastest = min(fastest, heard.Sub(f.written))
		}
	}
	return fastest - w.roundTrip/2
}

const (
	waterfallRows  = 20
	waterfallWidth = 60
)

// show draws it.
func (w *waterfall) show(to io.Writer) {
	var b strings.Builder
	defer func() { _, _ = io.WriteString(to, b.String()) }()
	if w.traceID == "" {
		b.WriteString("\nThe edge does not trace this utterance: set OTEL_EXPORTER_OTLP_ENDPOINT there, and see OTEL_TRACES_SAMPLER.\n")
	} else {
		fmt.Fprintf(&b, "\ntrace %s\nsession's trace %s\n", w.traceID, w.traceparent)
	}
	if len(w.frames) == 0 {
		return
	}
	offset := w.clockOffset()
	end := w.accepted
	var took [4][]time.Duration
	var firsts time.Duration
	for i, f := range w.frames {
		at := w.spans(f, offset)
		if i == 0 {
			firsts = at[0].Sub(w.accepted)
		}
		for s := range took {
			took[s] = append(took[s], max(0, at[s+1].Sub(at[s])))
		}
		end = later(end, at[4])
	}
	total := max(end.Sub(w.accepted), time.Millisecond)
	fmt.Fprintf(&b, "\n frame  text%*s\n", waterfallWidth+3, fmt.Sprintf("+%.0f ms", total.Seconds()*1000))
	step := max(1, (len(w.frames)+waterfallRows-1)/waterfallRows)
	for i := 0; i < len(w.frames); i += step {
		fmt.Fprintf(&b, "%6d  %s\n", w.frames[i].sequence, w.row(w.spans(w.frames[i], offset), total))
	}
	fmt.Fprintf(&b, "\n %-30s %9s %9s %9s\n", "where the time went, ms", "p50", "p95", "most")
	fmt.Fprintf(&b, "   %-28s %9.1f\n", "text to the first frame made", firsts.Seconds()*1000)
	for s, stage := range stages {
		slices.Sort(took[s])
		of := func(p int) float64 { return took[s][min(len(took[s])-1, len(took[s])*p/100)].Seconds() * 1000 }
		fmt.Fprintf(&b, " %c %-28s %9.1f %9.1f %9.1f\n", stage.mark, stage.name, of(50), of(95), of(100))
	}
}

// row draws one frame on the utterance's time.
func (w *waterfall) row(at []time.Time, total time.Duration) string {
	column := func(t time.Time) int {
		return max(0, min(waterfallWidth-1, int(t.Sub(w.accepted)*waterfallWidth/total)))
	}
	row := []rune(strings.Repeat(" ", waterfallWidth))
	for s, stage := range stages {
		for c := column(at[s]); c < column(at[s+1]); c++ {
			row[c] = stage.mark
		}
	}
	row[column(at[4])] = stages[3].mark
	return strings.TrimRight(string(row), " ")
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
