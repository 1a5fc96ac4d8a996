package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// frameList takes the frames that a voice writes, each write as one.
type frameList [][]byte

func (l *frameList) Write(p []byte) (int, error) {
	*l = append(*l, bytes.Clone(p))
	return len(p), nil
}

func openTone(t *testing.T, options map[string]string) Voice {
	t.Helper()
	v, err := Tone{}.Open("tone", options)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The end-to-end tests tell a lost, repeated or swapped frame by its sound, so
// no two frames may sound alike.
func TestToneHasNoTwoFramesAlike(t *testing.T) {
	seen := map[string]int{}
	for i := range 2000 {
		frame := string(AppendTone(nil, toneHz, i))
		if len(frame) != frameBytes {
			t.Fatalf("frame %d has %d bytes, want %d", i, len(frame), frameBytes)
		}
		if before, ok := seen[frame]; ok {
			t.Fatalf("frames %d and %d are alike", before, i)
		}
		seen[frame] = i
	}
}

func TestToneIsTheSameEveryTime(t *testing.T) {
	for _, i := range []int{0, 1, 999, 123_456} {
		if !bytes.Equal(AppendTone(nil, toneHz, i), AppendTone(nil, toneHz, i)) {
			t.Errorf("frame %d differs from itself", i)
		}
	}
	if bytes.Equal(AppendTone(nil, 440, 0), AppendTone(nil, 880, 0)) {
		t.Error("the frequency makes no difference")
	}
	if got := AppendTone([]byte("head"), toneHz, 3); string(got[:4]) != "head" || !bytes.Equal(got[4:], AppendTone(nil, toneHz, 3)) {
		t.Error("the frame is not appended to what was there")
	}
}

// A failover speaks the text anew in other pieces: the sound must not depend
// on where a text is cut.
func TestToneSpeaksThreeFramesARuneHoweverTheTextIsCut(t *testing.T) {
	const text = "Grüße, 世界! 👋 end"
	runes := []rune(text)
	for size := 1; size <= len(runes); size++ {
		var frames frameList
		v := openTone(t, nil)
		for at := 0; at < len(runes); at += size {
			if err := v.Speak(t.Context(), string(runes[at:min(at+size, len(runes))]), &frames); err != nil {
				t.Fatal(err)
			}
		}
		if want := 3 * len(runes); len(frames) != want {
			t.Fatalf("in pieces of %d: %d frames, want %d", size, len(frames), want)
		}
		for i, frame := range frames {
			if !bytes.Equal(frame, AppendTone(nil, toneHz, i)) {
				t.Fatalf("in pieces of %d: frame %d is another", size, i)
			}
		}
	}
}

func TestToneFrequency(t *testing.T) {
	tests := []struct {
		option string
		hz     float64 // 0: refused
	}{
		{"440", 440}, {"20", 20}, {"20000", 20_000}, {"261.63", 261.63}, {"1e3", 1000},
		{"", 0}, {"0", 0}, {"-440", 0}, {"19.9", 0}, {"20000.1", 0}, {"NaN", 0}, {"Inf", 0}, {"high", 0}, {"440 Hz", 0},
	}
	for _, tt := range tests {
		v, err := Tone{}.Open("tone", map[string]string{"frequency": tt.option})
		if tt.hz == 0 {
			if err == nil {
				t.Errorf("frequency %q was accepted", tt.option)
			} else if !strings.Contains(err.Error(), "frequency") {
				t.Errorf("frequency %q: %q does not name the option", tt.option, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("frequency %q: %v", tt.option, err)
			continue
		}
		var frames frameList
		if err := v.Speak(t.Context(), "x", &frames); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(frames[0], AppendTone(nil, tt.hz, 0)) {
			t.Errorf("frequency %q is not spoken at %g Hz", tt.option, tt.hz)
		}
	}
}

func TestToneEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var frames frameList
	if err := openTone(t, nil).Speak(ctx, "text", &frames); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak returned %v, want that it was canceled", err)
	}
	if len(frames) != 0 {
		t.Errorf("%d frames were made after the end", len(frames))
	}
}

func TestToneEndsWithItsWriter(t *testing.T) {
	r, w := io.Pipe()
	if err := r.CloseWithError(errStopped); err != nil {
		t.Fatal(err)
	}
	if err := openTone(t, nil).Speak(t.Context(), "text", w); !errors.Is(err, errStopped) {
		t.Errorf("Speak returned %v, want the writer's error", err)
	}
}
