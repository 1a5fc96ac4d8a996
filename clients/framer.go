package clients

import (
	"errors"
	"fmt"
	"time"

	"github.com/voxedge/voxedge/session"
)

// framer cuts what a worker sends into whole frames and emits each once: not
// those that are done from an earlier attempt, nor those that the client has.
type framer struct {
	rest []byte  // of a frame that is not whole
	at   uint64  // frames of the utterance up to where this attempt is
	done uint64  // frames emitted or skipped in all attempts, or before
	skip *uint64 // frames yet to be skipped
	emit func(session.Frame) error

	place session.Place // the last that a worker has named, or that was begun at
	began session.Place // that this attempt began at
	named int64         // the last number of characters that it has named, were it a place or not
}

func newFramer(from session.Place, skip *uint64, emit func(session.Frame) error) *framer {
	return &framer{place: from, done: from.Frames, skip: skip, emit: emit}
}

// restart begins an attempt: the text is spoken again from the last place on, behind so
// many characters.
func (f *framer) restart() (runes int) {
	f.at, f.rest = f.place.Frames, f.rest[:0]
	f.began, f.named = f.place, int64(f.place.Runes)
	return f.began.Runes
}

// name takes note that the worker has spoken so many characters of what it was given
// before what comes next. When that cannot be, none of the places that it has named in
// this attempt is believed.
func (f *framer) name(textBefore int64, script *session.Script) (err error) {
	defer func() {
		if err != nil {
			f.place = f.began
		}
	}()
	runes, known := int64(f.began.Runes)+textBefore, int64(script.Runes())
	switch {
	case textBefore < 0 || runes <= f.named || runes > known:
		return fmt.Errorf("it names a place behind %d characters of %d, and did behind %d before", runes, known, f.named)
	case len(f.rest) > 0:
		return errors.New("it names a place in the text within a frame; it must fill the one before up with silence")
	}
	if f.named = runes; runes < known && f.at > f.began.Frames { // or nothing lies behind or before it yet
		f.place = session.Place{Frames: f.at, Runes: int(runes)}
	}
	return nil
}

func (f *framer) write(sent *audioFrame, received time.Time) error {
	out := session.Frame{Received: received, Traceparent: sent.traceparent, Emitted: sent.emitted, Place: f.place}
	data := sent.audio
	for len(data) > 0 {
		if len(f.rest) == 0 && len(data) >= session.FrameBytes {
			out.PCM, data = data[:session.FrameBytes], data[session.FrameBytes:]
		} else {
			n := min(session.FrameBytes-len(f.rest), len(data))
			f.rest, data = append(f.rest, data[:n]...), data[n:]
			if len(f.rest) < session.FrameBytes {
				return nil
			}
			out.PCM, f.rest = f.rest, f.rest[:0]
		}
		if err := f.frame(out); err != nil {
			return err
		}
	}
	return nil
}

// finish fills what is left up with silence to a last whole frame.
func (f *framer) finish() error {
	if len(f.rest) == 0 {
		return nil
	}
	f.rest = append(f.rest, make([]byte, session.FrameBytes-len(f.rest))...)
	return f.frame(session.Frame{PCM: f.rest, Received: time.Now(), Place: f.place})
}

func (f *framer) frame(frame session.Frame) error {
	f.at++
	if f.at <= f.done {
		return nil
	}
	if *f.skip > 0 {
		*f.skip--
	} else if err := f.emit(frame); err != nil {
		return err
	}
	f.done++
	return nil
}
