package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
)

func TestSynthesizeBeforeStartSessionIsNotFound(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	s := l.speech("nobody")
	s.send("x", true)
	_, err := s.stream.Recv()
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "StartSession") {
		t.Errorf("the answer is %v, want NotFound and what to call", err)
	}
}

func TestSynthesizeOfNoChunkIsNothing(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	s := l.speech("nobody")
	s.halfClose()
	if frames := s.rest(); len(frames) != 0 {
		t.Errorf("%d frames came for no text", len(frames))
	}
}

func TestSynthesizeIsTheToneBitByBit(t *testing.T) {
	tests := []struct {
		name   string
		chunks []string
	}{
		{"one chunk", []string{"Hello. Is anyone there? No."}},
		{"tokens", strings.SplitAfter("Hello there. General Kenobi! You are a bold one.", " ")},
		{"runes of many bytes", []string{"Grüß", " Gott. 世", "界 👋"}},
		{"empty chunks between", []string{"", "Hello. ", "", "There", ""}},
		{"no text", []string{""}},
		{"much text", []string{strings.Repeat("All work and no play makes Jack a dull boy. ", 20)}},
	}
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := l.speech("a")
			for i, chunk := range tt.chunks {
				s.send(chunk, i == len(tt.chunks)-1)
			}
			s.halfClose()
			runes := len([]rune(strings.Join(tt.chunks, "")))
			checkUtterance(t, s.rest(), "a", toneHz, 0, runes*ToneFramesPerRune)
		})
	}
}

// is_final ends the utterance even where the caller forgets to half-close.
func TestSynthesizeEndsAfterTheFinalChunk(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")
	s.send("done", true)
	checkUtterance(t, s.rest(), "a", toneHz, 0, 12)
}

// Some edges half-close and never say that a chunk is final.
func TestSynthesizeEndsAtTheHalfClose(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")
	s.send("He said: ", false)
	s.send("done", false)
	s.halfClose()
	checkUtterance(t, s.rest(), "a", toneHz, 0, 3*len("He said: done"))
}

// The first sentence must be heard while a language model still writes the
// next ones.
func TestSynthesizeSpeaksASentenceBeforeTheTextIsComplete(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")

	s.send("Hello ", false)
	s.send("there. G", false)
	first := 3 * len("Hello there. ")
	checkTone(t, s.frames(first), "a", toneHz, 0)

	s.send("eneral Kenobi! You", false)
	second := first + 3*len("General Kenobi! ")
	checkTone(t, s.frames(second-first), "a", toneHz, first)

	s.say(" are a bold one.")
	total := second + 3*len("You are a bold one.")
	checkUtterance(t, s.rest(), "a", toneHz, second, total)
}

// choppedTone is the tone engine, whose sound comes in writes that are no
// frames.
type choppedTone struct {
	Tone
	write int
}

func (e choppedTone) Open(model string, options map[string]string) (Voice, error) {
	v, err := e.Tone.Open(model, options)
	return choppedVoice{v, e.write}, err
}

type choppedVoice struct {
	Voice
	write int
}

func (v choppedVoice) Speak(ctx context.Context, text string, out io.Writer) error {
	var sound bytes.Buffer
	if err := v.Voice.Speak(ctx, text, &sound); err != nil {
		return err
	}
	sound.Truncate(sound.Len() - 100) // its last frame is not whole
	for sound.Len() > 0 {
		if _, err := out.Write(sound.Next(v.write)); err != nil {
			return err
		}
	}
	return nil
}

// An engine writes as it likes; a frame may hold the end of one sentence and
// the beginning of the next.
func TestSynthesizeMakesWholeFramesOfAnyWrites(t *testing.T) {
	for _, write := range []int{1, 700, frameBytes, frameBytes + 2, 5 * frameBytes} {
		l := startWorker(t, choppedTone{write: write}, 0)
		l.open("a", nil)
		s := l.speech("a")
		s.say("One. Two.")
		frames := s.rest()
		var got []byte
		for i, f := range frames[:len(frames)-1] {
			if len(f.GetAudioData()) != frameBytes || f.GetSequenceNumber() != int64(i+1) {
				t.Fatalf("in writes of %d: frame %d has %d bytes and the number %d", write, i, len(f.GetAudioData()), f.GetSequenceNumber())
			}
			got = append(got, f.GetAudioData()...)
		}
		checkEndMarker(t, frames[len(frames)-1], "a", len(frames)-1)

		var one, two []byte
		for i := range 15 {
			one = AppendTone(one, toneHz, i)
		}
		for i := range 12 {
			two = AppendTone(two, toneHz, 15+i)
		}
		want := append(one[:len(one)-100:len(one)-100], two[:len(two)-100]...)
		want = append(want, make([]byte, 200)...) // silence fills the last frame
		if !bytes.Equal(got, want) {
			t.Errorf("in writes of %d: %d bytes came, which are not the %d of the tone", write, len(got), len(want))
		}
	}
}

func TestSynthesizeNumbersEachUtteranceFromOne(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	for range 3 {
		s := l.speech("a")
		s.say("again")
		checkUtterance(t, s.rest(), "a", toneHz, 0, 15)
	}
}

func TestSessionsAtOnceEachGetTheirOwnSound(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	sessions := map[string]float64{"low": 220, "middle": 440, "high": 880}
	l.open("low", map[string]string{"frequency": "220"})
	l.open("middle", nil)
	l.open("high", map[string]string{"frequency": "880"})
	text := strings.Repeat("Side by side they speak. ", 10)

	heard := map[string][]*proto.AudioFrame{}
	var mu sync.Mutex
	var listening sync.WaitGroup
	var speaking []*speech
	for id := range sessions {
		s := l.speech(id)
		s.say(text)
		speaking = append(speaking, s)
	}
	for _, s := range speaking {
		listening.Go(func() {
			for {
				frame, err := s.stream.Recv()
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("session %q: %v", s.id, err)
					}
					return
				}
				mu.Lock()
				heard[s.id] = append(heard[s.id], frame)
				mu.Unlock()
			}
		})
	}
	listening.Wait()
	for id, hz := range sessions {
		checkUtterance(t, heard[id], id, hz, 0, 3*len(text))
	}
}

// Text that was lost must not pass for spoken.
func TestSynthesizeFailsWhenAChunkCannotBeRead(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")
	s.send("Hello. ", false)
	s.send(strings.Repeat("too much ", 1<<20), false) // over gRPC's 4 MB
	for {
		_, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			t.Fatal("the utterance ended well without its second chunk")
		}
		if err != nil {
			if code := status.Code(err); code != codes.ResourceExhausted {
				t.Errorf("the utterance failed with %s, want ResourceExhausted", code)
			}
			return
		}
	}
}

// An edge stops an utterance by cancelling the call; the worker must notice
// and be free for the next.
func TestSynthesizeEndsWhenTheCallIsCancelled(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	ctx, cancel := context.WithCancel(l.ctx)
	stream, err := l.tts.Synthesize(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &speech{t: t, id: "a", stream: stream}
	s.send(strings.Repeat("long ", 1000), true)
	s.frame()
	cancel()
	l.awaitQuiet("a")

	next := l.speech("a")
	next.say("next")
	checkUtterance(t, next.rest(), "a", toneHz, 0, 12)
}

// awaitQuiet waits until the session speaks nothing: the end of a call that was
// cancelled is no event at the caller's side.
func (l *loopback) awaitQuiet(id string) {
	l.t.Helper()
	session := l.server.session(id)
	l.until("session "+id+" is quiet", func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return len(session.streams) == 0
	})
}
