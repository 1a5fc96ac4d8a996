package worker

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Stamp is an engine for measurements: silence, three frames a character, of
// which each begins with the time it was made, in Unix nanoseconds as eight
// little-endian bytes. With the option pace=realtime it makes one every 20 ms,
// as a voice does that is no faster than its sound.
type Stamp struct{}

// Models returns the one model.
func (Stamp) Models() []Model { return []Model{{ID: "stamp", Family: "stamp"}} }

// Open reads the option pace.
func (Stamp) Open(_ string, options map[string]string) (Voice, error) {
	v := &stampVoice{frame: make([]byte, frameBytes)}
	switch pace := options["pace"]; pace {
	case "":
	case "realtime":
		v.every = frameMillis * time.Millisecond
	default:
		return nil, fmt.Errorf("the option pace is %q, not realtime", pace)
	}
	return v, nil
}

type stampVoice struct {
	frame []byte
	every time.Duration // 0: as fast as they are taken
	next  time.Time
}

// PartsStandAlone is true, though no two stamps are the same: places are to be measured, too.
func (*stampVoice) PartsStandAlone() bool { return true }

// Speak writes the frames of the text, a frame a write.
func (v *stampVoice) Speak(ctx context.Context, text string, out io.Writer) error {
	for range utf8.RuneCountInString(text) * ToneFramesPerRune {
		if err := v.wait(ctx); err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(v.frame, uint64(time.Now().UnixNano())) //nolint:gosec // after 1970
		if _, err := out.Write(v.frame); err != nil {
			return err
		}
	}
	return nil
}

func (v *stampVoice) wait(ctx context.Context) error {
	if v.every == 0 {
		return ctx.Err()
	}
	if v.next.IsZero() {
		v.next = time.Now()
	}
	v.next = v.next.Add(v.every)
	select {
	case <-time.After(time.Until(v.next)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
