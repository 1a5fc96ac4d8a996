package session

import (
	"context"
	"slices"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// Reason says how an utterance ended.
type Reason string

// The reasons of the wire contract.
const (
	Completed Reason = "completed"
	Stopped   Reason = "stopped"
	Failed    Reason = "failed"
)

// CutOff is an utterance in the middle of which its connection ended. No client
// hears of it, and the session may be resumed.
const CutOff Reason = "cut_off"

// utterance is the audio of one run of text. The session's lock guards it,
// but for script, which guards itself.
type utterance struct {
	number   uint64
	script   *Script
	ctx      context.Context
	cancel   context.CancelFunc
	over     bool          // no frame of it is queued or written any more
	asked    time.Duration // since the hub began: when a worker was asked for its next frame
	accepted time.Time
	first    uint64  // sequence of its first frame, once it is being spoken
	last     uint64  // sequence of its last frame, once it has been spoken
	err      error   // why it failed, once it has
	frames   uint64  // written over this connection
	from     Place   // where it is begun once more, after a resume
	places   []Place // the latest from which it can be spoken on

	trace *telemetry.UtteranceTrace // nil when it is not traced
	spans *telemetry.Frames         // nil when it is not sampled
	sound sound
	// traceparent is the W3C context of trace, for the journal.
	traceparent string
}

// keepPlaces is how many places of an utterance are kept: the newest. Who comes back lacks
// what was on its way, which is a sentence or two where it is paced; who lacks more is
// spoken all once more.
const keepPlaces = 16

// pass takes note of the place that a frame lies behind, and reports whether it is new.
// Later ones than that have turned out wrong, and are forgotten.
func (u *utterance) pass(p Place) bool {
	n := len(u.places)
	for n > 0 && u.places[n-1].Frames > p.Frames {
		n--
	}
	u.places = u.places[:n]
	if p.Frames == 0 || n > 0 && u.places[n-1] == p {
		return false
	}
	if n == keepPlaces {
		u.places = slices.Delete(u.places, 0, 1)
	}
	u.places = append(u.places, p)
	return true
}
