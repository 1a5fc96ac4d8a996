//go:build unix

package worker

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/voxedge/voxedge/proto"
)

// needEspeak returns the engine. Where tests count, its absence is a failure.
func needEspeak(t *testing.T) *Espeak {
	t.Helper()
	e, err := NewEspeak()
	switch {
	case err == nil:
		return e
	case os.Getenv("CI") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
	return nil
}

func speakAll(t *testing.T, e *Espeak, options map[string]string, text string) []byte {
	t.Helper()
	v, err := e.Open("espeak-ng", options)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := v.Speak(t.Context(), text, &out); err != nil {
		t.Fatalf("speaking %.40q: %v", text, err)
	}
	return out.Bytes()
}

func TestEspeakSpeaks(t *testing.T) {
	e := needEspeak(t)
	pcm := decode(t, speakAll(t, e, nil, "Hello there, this is a sentence."))
	if seconds := float64(len(pcm)) / sampleRate; seconds < 1 || seconds > 10 {
		t.Errorf("the sentence takes %.2f s, want 1 to 10", seconds)
	}
	if rms := loudness(pcm); rms < 500 {
		t.Errorf("the loudness is %.0f of 32768: that is no speech", rms)
	}
	// Speech lies low: most of it below 4 kHz, where noise would lie anywhere.
	loudest := slices.MaxFunc(slices.Collect(slices.Chunk(pcm[:len(pcm)/8192*8192], 8192)), func(a, b []float64) int {
		return int(loudness(a) - loudness(b))
	})
	if low, high := spectrum(loudest, 4000); low < 4*high {
		t.Errorf("the energy below 4 kHz is %.1f times that above, want 4", low/high)
	}
}

// At a wrong rate speech is still speech, but too long and too low.
func TestEspeakKeepsItsTime(t *testing.T) {
	e := needEspeak(t)
	const text = "one two three four five six seven eight nine ten"
	cmd := exec.CommandContext(t.Context(), e.path, "--stdin", "--stdout")
	cmd.Stdin = strings.NewReader(text)
	wav, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	r := bytes.NewReader(wav)
	rate, err := readWAVHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	want := float64(r.Len()/2) / float64(rate)
	if got := float64(len(speakAll(t, e, nil, text))/2) / sampleRate; math.Abs(got-want) > 0.005 {
		t.Errorf("the sentence takes %.3f s, espeak-ng's own %.3f s", got, want)
	}
}

// What is spoken from a place that was named is what was spoken there.
func TestEspeakSpeaksOnFromAnyPlace(t *testing.T) {
	l := startWorker(t, needEspeak(t), 0)
	l.open("a", nil)
	say := func(text string) []*proto.AudioFrame {
		s := l.speech("a")
		s.say(text)
		return s.rest()
	}
	const text = "The first one. Is this another, 2.5 times as long as the first? Yes!  And here is the last"
	frames := say(text)
	places := 0
	for i, frame := range frames {
		if frame.GetTextBefore() == 0 {
			continue
		}
		places++
		rest := say(text[frame.GetTextBefore():])
		if len(rest) != len(frames)-i {
			t.Fatalf("from %d on there are %d frames, want %d", frame.GetTextBefore(), len(rest), len(frames)-i)
		}
		for j, other := range rest {
			if !bytes.Equal(other.GetAudioData(), frames[i+j].GetAudioData()) {
				t.Fatalf("%d frames behind %d the sound is another", j, frame.GetTextBefore())
			}
		}
	}
	if places != 3 {
		t.Errorf("%d places were named, want 3", places)
	}
}

func TestEspeakIsSilentWithoutText(t *testing.T) {
	e := needEspeak(t)
	for _, text := range []string{"", " ", "\n\t \u00a0"} {
		if pcm := speakAll(t, e, nil, text); len(pcm) != 0 {
			t.Errorf("%q makes %d bytes", text, len(pcm))
		}
	}
}

// espeak-ng itself takes it for the end.
func TestEspeakSpeaksOnAfterANUL(t *testing.T) {
	e := needEspeak(t)
	whole, cut := len(speakAll(t, e, nil, "one\x00two three four five")), len(speakAll(t, e, nil, "one"))
	if whole < 2*cut {
		t.Errorf("%d bytes of sound, and %d up to the NUL", whole, cut)
	}
}

func TestEspeakTakesItsOptions(t *testing.T) {
	e := needEspeak(t)
	const text = "one two three four five six seven"
	usual := speakAll(t, e, nil, text)
	if fast := speakAll(t, e, map[string]string{"speed": "300"}, text); len(fast) >= len(usual) {
		t.Errorf("at a higher speed it takes %d bytes, at the usual one %d", len(fast), len(usual))
	}
	if high := speakAll(t, e, map[string]string{"pitch": "99"}, text); bytes.Equal(high, usual) {
		t.Error("the pitch makes no difference")
	}
	if german := speakAll(t, e, map[string]string{"language": "de"}, text); bytes.Equal(german, usual) {
		t.Error("the language makes no difference")
	}
	british := speakAll(t, e, map[string]string{"language": "en-GB"}, text)
	if other := speakAll(t, e, map[string]string{"language": "en-ZZ"}, text); !bytes.Equal(british, other) {
		t.Error("a region that is not known does not fall back to its language")
	}
}

func TestEspeakRefuses(t *testing.T) {
	e := needEspeak(t)
	tests := []struct{ option, value string }{
		{"language", "tlh-Qaak"}, {"language", "klingon"}, {"language", "-"}, {"language", "--path=/tmp"},
		{"speed", "79"}, {"speed", "451"}, {"speed", "fast"}, {"speed", ""},
		{"pitch", "-1"}, {"pitch", "100"}, {"pitch", "high"},
	}
	for _, tt := range tests {
		_, err := e.Open("espeak-ng", map[string]string{tt.option: tt.value})
		if err == nil {
			t.Errorf("%s %q was accepted", tt.option, tt.value)
		} else if !strings.Contains(err.Error(), tt.option) || !strings.Contains(err.Error(), strings.ToLower(tt.value)) {
			t.Errorf("%s %q: %q does not name both", tt.option, tt.value, err)
		}
	}
	l := startWorker(t, e, 0)
	if reply := l.startSession("a", "", map[string]string{"language": "klingon"}); reply.GetSuccess() {
		t.Error("StartSession took a language that is not to be had")
	}
}

// Edges route by the languages that a worker lists, in the letters it lists
// them in.
func TestEspeakOpensEveryLanguageItLists(t *testing.T) {
	e := needEspeak(t)
	languages := e.Models()[0].Languages
	if !slices.Contains(languages, "de") || len(languages) < 20 {
		t.Fatalf("it lists only %q", languages)
	}
	for _, language := range languages {
		if _, err := e.Open("espeak-ng", map[string]string{"language": language}); err != nil {
			t.Errorf("%s: %v", language, err)
		}
	}
}

// checkNoChildren finds a process that runs on or was never waited for.
func checkNoChildren(t *testing.T) {
	t.Helper()
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a child process is left (wait4: %d, %v)", pid, err)
	}
}

// countingWriter takes everything, calls began at the first write, and fails
// with err.
type countingWriter struct {
	bytes int
	began func()
	err   error
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if w.bytes == 0 && len(p) > 0 {
		w.began()
	}
	w.bytes += len(p)
	if w.bytes > 0 && w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// muchText is more than ten minutes even at espeak-ng's highest speed.
var muchText = strings.Repeat("one two three four five six seven eight nine ten ", 1000)

const tenMinutes = 10 * 60 * sampleRate * 2

func TestEspeakEndsWhenItIsCancelled(t *testing.T) {
	e := needEspeak(t)
	v, err := e.Open("espeak-ng", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &countingWriter{began: cancel}
	if err := v.Speak(ctx, muchText, w); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak returned %v, want that it was canceled", err)
	}
	if w.bytes >= tenMinutes {
		t.Errorf("it went on for %d bytes after the end", w.bytes)
	}
	checkNoChildren(t)

	if err := v.Speak(ctx, "more", &countingWriter{began: func() { t.Error("it speaks after the end") }}); !errors.Is(err, context.Canceled) {
		t.Errorf("Speak after the end returned %v, want that it was canceled", err)
	}
	checkNoChildren(t)
}

func TestEspeakEndsWithItsWriter(t *testing.T) {
	e := needEspeak(t)
	v, err := e.Open("espeak-ng", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &countingWriter{began: func() {}, err: errStopped}
	if err := v.Speak(t.Context(), muchText, w); !errors.Is(err, errStopped) {
		t.Errorf("Speak returned %v, want the writer's error", err)
	}
	checkNoChildren(t)
}

// The whole way: sentence by sentence through the resampler into frames.
func TestEspeakBehindTheServer(t *testing.T) {
	l := startWorker(t, needEspeak(t), 0)
	l.open("a", map[string]string{"language": "en"})
	s := l.speech("a")
	s.say("First. Second. Third.")
	frames := s.rest()
	last := len(frames) - 1
	if last < 50 {
		t.Fatalf("only %d frames came", last)
	}
	var pcm []byte
	for i, f := range frames[:last] {
		if len(f.GetAudioData()) != frameBytes || f.GetIsFinal() || f.GetSequenceNumber() != int64(i+1) {
			t.Fatalf("frame %d has %d bytes, final %t, sequence %d", i, len(f.GetAudioData()), f.GetIsFinal(), f.GetSequenceNumber())
		}
		pcm = append(pcm, f.GetAudioData()...)
	}
	checkEndMarker(t, frames[last], "a", last)
	if rms := loudness(decode(t, pcm)); rms < 500 {
		t.Errorf("the loudness is %.0f of 32768: that is no speech", rms)
	}
	checkNoChildren(t)
}

// A barge-in mid-sentence must not leave espeak-ng running.
func TestEspeakBehindTheServerStops(t *testing.T) {
	l := startWorker(t, needEspeak(t), 0)
	l.open("a", nil)
	s := l.speech("a")
	s.say(muchText)
	frames := s.frames(5)
	l.control("a", proto.ControlCommand_STOP)
	frames = append(frames, s.rest()...)
	last := len(frames) - 1
	if last*frameBytes >= tenMinutes {
		t.Errorf("all of the %d frames came", last)
	}
	checkEndMarker(t, frames[last], "a", last)
	checkNoChildren(t)
}
