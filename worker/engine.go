// Package worker owns the reference worker: tts.TTSService over an Engine, and
// the engines beside it. It may import proto. It knows nothing of edges or
// Redis; whoever runs it announces it.
package worker

import (
	"context"
	"io"
)

// The audio that engines make: 48 kHz mono signed 16-bit little-endian PCM,
// sent in frames of 20 ms.
const (
	sampleRate  = 48000
	frameMillis = 20
	frameBytes  = sampleRate / 1000 * frameMillis * 2
)

// Engine turns text into sound.
type Engine interface {
	// Models returns what it can speak with, the default first.
	Models() []Model
	// Open prepares one utterance. It fails when the model or an option is not
	// to be had, with an error that says so.
	Open(model string, options map[string]string) (Voice, error)
}

// Voice speaks one utterance.
type Voice interface {
	// Speak writes the sound of the next part of the utterance to out as it is
	// made. An error of out ends it and is returned.
	Speak(ctx context.Context, text string, out io.Writer) error
	// PartsStandAlone reports whether a part sounds the same without those before it:
	// then an utterance can be spoken on from where any of them begins.
	PartsStandAlone() bool
}

// Model is one model of an engine.
type Model struct {
	ID        string
	Family    string
	Languages []string
}
