package telemetry

import "time"

// Recorder takes note of what happens to sessions. No method waits.
type Recorder interface {
	SessionOpened()
	// SessionResumed is called besides SessionOpened.
	SessionResumed()
	// SessionEnded takes the reason given to the client.
	SessionEnded(reason string)
	// UtteranceEnded takes the reason, the characters asked for and the frames written.
	UtteranceEnded(reason string, characters int, frames uint64)
	// FirstAudio takes the time from an utterance's text to its first frame written.
	FirstAudio(time.Duration)
	// Problem takes the code of an error sent to a client.
	Problem(code string)
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
func (Discard) UtteranceEnded(string, int, uint64) {}

// FirstAudio does nothing.
func (Discard) FirstAudio(time.Duration) {}

// Problem does nothing.
func (Discard) Problem(string) {}
