package telemetry

import "time"

// Recorder takes note of what happens to sessions. No method waits.
type Recorder interface {
	SessionOpened()
	// SessionResumed is called besides SessionOpened.
	SessionResumed()
	// SessionEnded takes the reason given to the client.
	SessionEnded(reason string)
	// UtteranceEnded takes the reason and the characters asked for.
	UtteranceEnded(reason string, characters int)
	// FirstAudio takes the time from an utterance's text, or its turn if that was
	// later, to its first frame written.
	FirstAudio(time.Duration)
	// Problem takes the code of an error sent to a client.
	Problem(code string)
	// Frames takes, of some frames that were written, their wait in the edge and
	// their lateness against the pacing, and how often the client ran dry meanwhile.
	Frames(waits, lateness *Distribution, underruns int)
	// BargeIn takes the command and the time from its reading to silence.
	BargeIn(command string, took time.Duration)
	// JournalFailed is called when sessions' records could not be saved, each time.
	JournalFailed()
	// ReceiptIgnored is called for a frame's receipt that ends no trace.
	ReceiptIgnored()
	// Session begins a session's traces; nil means none.
	Session(SessionStart) *SessionTrace
}

// Discard is a Recorder that takes no note.
type Discard struct{}

// SessionOpened does nothing.
func (Discard) SessionOpened() {}

// SessionResumed does nothing.
func (Discard) SessionResumed() {}

// SessionEnded does nothing.
func (Discard) SessionEnded(string) {}

// UtteranceEnded does nothing.
func (Discard) UtteranceEnded(string, int) {}

// FirstAudio does nothing.
func (Discard) FirstAudio(time.Duration) {}

// Problem does nothing.
func (Discard) Problem(string) {}

// Frames does nothing.
func (Discard) Frames(_, _ *Distribution, _ int) {}

// BargeIn does nothing.
func (Discard) BargeIn(string, time.Duration) {}

// JournalFailed does nothing.
func (Discard) JournalFailed() {}

// ReceiptIgnored does nothing.
func (Discard) ReceiptIgnored() {}

// Session returns nil.
func (Discard) Session(SessionStart) *SessionTrace { return nil }

// WorkerRecorder takes note of what happens between an edge and its workers.
// No method waits.
type WorkerRecorder interface {
	// WorkerPicked is called when a session is started at a worker.
	WorkerPicked(worker string)
	// WorkerFailed takes the kind of the failure of a worker that served a session.
	WorkerFailed(worker, kind string)
	// FailedOver is called when an utterance goes on elsewhere.
	FailedOver()
}

// WorkerPicked does nothing.
func (Discard) WorkerPicked(string) {}

// WorkerFailed does nothing.
func (Discard) WorkerFailed(_, _ string) {}

// FailedOver does nothing.
func (Discard) FailedOver() {}

// Edge is an edge's metrics and, unless it is nil, its tracer.
type Edge struct {
	*Metrics
	Tracer *Tracer
}

var (
	_ Recorder       = Edge{}
	_ WorkerRecorder = Edge{}
)

// Session begins a session's traces.
func (e Edge) Session(s SessionStart) *SessionTrace { return e.Tracer.Session(s) }
