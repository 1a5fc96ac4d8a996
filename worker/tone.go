package worker

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
	"unicode/utf8"
)

const (
	toneHz = 440
	// ToneFramesPerRune is how many frames the tone engine speaks for a character.
	ToneFramesPerRune = 3
)

// Tone is an engine that needs nothing and always makes the same sound: three
// frames a character of a 440 Hz tone, or of the option frequency, whose
// loudness swells so slowly that no frame is like another.
type Tone struct{}

// Models returns the one model.
func (Tone) Models() []Model { return []Model{{ID: "tone", Family: "tone"}} }

// Open reads the option frequency, in hertz.
func (Tone) Open(_ string, options map[string]string) (Voice, error) {
	v := &toneVoice{hz: toneHz}
	if s, ok := options["frequency"]; ok {
		hz, err := strconv.ParseFloat(s, 64)
		if err != nil || !(hz >= 20 && hz <= 20_000) {
			return nil, fmt.Errorf("the option frequency %q is not a number from 20 to 20000", s)
		}
		v.hz = hz
	}
	return v, nil
}

type toneVoice struct {
	hz    float64
	frame int
	buf   []byte
}

// PartsStandAlone is false, for the tone swells on.
func (*toneVoice) PartsStandAlone() bool { return false }

// Speak writes the frames of the text, a frame a write.
func (v *toneVoice) Speak(ctx context.Context, text string, out io.Writer) error {
	for range utf8.RuneCountInString(text) * ToneFramesPerRune {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := out.Write(v.next()); err != nil {
			return err
		}
	}
	return nil
}

func (v *toneVoice) next() []byte {
	i := v.frame
	v.frame++
	if v.hz == toneHz && i < readyFrames {
		return ready()[i*frameBytes : (i+1)*frameBytes]
	}
	v.buf = AppendTone(v.buf[:0], v.hz, i)
	return v.buf
}

// ready is the start of the 440 Hz tone, made once, so that a worker under
// load costs little besides what is measured with it.
var ready = sync.OnceValue(func() (pcm []byte) {
	for i := range readyFrames {
		pcm = AppendTone(pcm, toneHz, i)
	}
	return pcm
})

const readyFrames = 500

// AppendTone appends the i-th frame, counted from 0, of the tone engine's sound
// at the frequency.
func AppendTone(dst []byte, hz float64, i int) []byte {
	const samples = frameBytes / 2
	const swell = 0.0437 // Hz: a cycle is longer than most utterances
	loudness := 8000 + 4000*math.Sin(2*math.Pi*swell*float64(i*samples)/sampleRate)
	for n := i * samples; n < (i+1)*samples; n++ {
		v := loudness * math.Sin(2*math.Pi*hz*float64(n)/sampleRate)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(int16(v)))
	}
	return dst
}
