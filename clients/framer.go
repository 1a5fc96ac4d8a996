package clients

import (
	"time"

	"github.com/voxedge/voxedge/session"
)

// framer cuts what a worker sends into whole frames and emits each once: not
// those that are done from an earlier attempt, nor those that the client has.
type framer struct {
	rest []byte  // of a frame that is not whole
	at   uint64  // frames cut in this attempt
	done uint64  // frames emitted or skipped in all attempts
	skip *uint64 // frames yet to be skipped
	emit func(session.Frame) error
}

// restart begins an attempt: the text is spoken from its start again.
func (f *framer) restart() { f.rest, f.at = f.rest[:0], 0 }

func (f *framer) write(from *audioFrame, received time.Time) error {
	out := session.Frame{Received: received, Traceparent: from.traceparent, Emitted: from.emitted}
	data := from.audio
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
	return f.frame(session.Frame{PCM: f.rest, Received: time.Now()})
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
