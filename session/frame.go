package session

import "time"

// The one audio format of the client's side: 20 ms frames of 48 kHz mono
// signed 16-bit little-endian PCM.
const (
	SampleRate    = 48000
	FrameDuration = 20 * time.Millisecond
	FrameMillis   = int(FrameDuration / time.Millisecond)
	FrameBytes    = SampleRate * FrameMillis / 1000 * 2
	Encoding      = "pcm_s16le"
)

// Frame is 20 ms of speech as a worker sent it. Its bytes are valid only until
// the call that passes it returns.
type Frame struct {
	PCM         []byte    // FrameBytes of samples
	Received    time.Time // when the edge had it whole
	Traceparent []byte    // W3C context of the worker's span of this frame, or empty
	Emitted     int64     // the worker's Unix time in nanoseconds when it sent it, or 0
	Place       Place     // the last at or before it: one that the worker has named, or that was begun at
}

// Place is one in an utterance from which it can be spoken on without what comes before:
// where a sentence begins. The zero Place is the utterance's start.
type Place struct {
	Frames uint64 `json:"frames"` // before it
	Runes  int    `json:"runes"`  // of the text, before it
}
