package worker

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/voxedge/voxedge/proto"
)

const (
	pause  = proto.ControlCommand_PAUSE
	resume = proto.ControlCommand_RESUME
	stop   = proto.ControlCommand_STOP
)

// longText is far more than the connection can hold, so that a worker that is
// not stopped or paused is in the middle of it until the test reads on.
var longText = strings.Repeat("all work and no play ", 50)

// steppedTone is the tone engine; a session with the option stepped makes each
// frame only when it is told.
type steppedTone struct {
	Tone
	step chan struct{}
}

func (e steppedTone) Open(model string, options map[string]string) (Voice, error) {
	v, err := e.Tone.Open(model, options)
	if err != nil || options["stepped"] == "" {
		return v, err
	}
	return steppedVoice{v, e.step}, nil
}

type steppedVoice struct {
	Voice
	step chan struct{}
}

func (v steppedVoice) Speak(ctx context.Context, text string, out io.Writer) error {
	return v.Voice.Speak(ctx, text, steppedWriter{ctx, v.step, out})
}

type steppedWriter struct {
	ctx  context.Context
	step chan struct{}
	out  io.Writer
}

func (w steppedWriter) Write(p []byte) (int, error) {
	select {
	case <-w.step:
		return w.out.Write(p)
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}

// listen reads the stream in the background.
func (s *speech) listen() (frames <-chan *proto.AudioFrame) {
	heard := make(chan *proto.AudioFrame, 10_000)
	go func() {
		defer close(heard)
		for {
			frame, err := s.stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					s.t.Errorf("the stream of %q failed: %v", s.id, err)
				}
				return
			}
			heard <- frame
		}
	}()
	return heard
}

func collect(heard <-chan *proto.AudioFrame) (frames []*proto.AudioFrame) {
	for frame := range heard {
		frames = append(frames, frame)
	}
	return frames
}

// With nothing in flight, not one frame comes in a pause; RESUME goes on with
// the very next. That another session speaks a whole utterance meanwhile shows
// that only one is paused, and that a frame would have had the time to come.
func TestPauseHoldsTheNextFrameOfItsOwnSession(t *testing.T) {
	engine := steppedTone{step: make(chan struct{})}
	l := startWorker(t, engine, 0)
	l.open("a", map[string]string{"stepped": "yes"})
	l.open("b", map[string]string{"frequency": "880"})
	s := l.speech("a")
	s.say("abcd")
	heard := s.listen()
	engine.step <- struct{}{}
	checkTone(t, []*proto.AudioFrame{<-heard}, "a", toneHz, 0)

	l.control("a", pause)
	engine.step <- struct{}{} // the next frame is made, and held
	other := l.speech("b")
	other.say(longText)
	checkUtterance(t, other.rest(), "b", 880, 0, 3*len(longText))
	select {
	case frame := <-heard:
		t.Fatalf("frame %d came in a pause", frame.GetSequenceNumber())
	default:
	}

	l.control("a", resume)
	checkTone(t, []*proto.AudioFrame{<-heard}, "a", toneHz, 1)
	for range 10 {
		engine.step <- struct{}{}
	}
	checkUtterance(t, collect(heard), "a", toneHz, 2, 12)
}

// A worker at full speed: what comes in the pause was under way before it.
func TestPauseOfAWorkerAtFullSpeedLosesNothing(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	l.open("b", nil)
	s := l.speech("a")
	s.say(longText)
	frames := s.frames(5)
	l.control("a", pause)

	var count atomic.Int64
	all := make(chan []*proto.AudioFrame, 1)
	heard := s.listen()
	go func() {
		for frame := range heard {
			frames = append(frames, frame)
			count.Add(1)
		}
		all <- frames
	}()
	for range 3 {
		other := l.speech("b")
		other.say(longText)
		checkUtterance(t, other.rest(), "b", toneHz, 0, 3*len(longText))
	}
	// The window and gRPC's own buffer for a stream, 64 KB each.
	if inFlight := int64(2 * 64 << 10 / frameBytes); count.Load() > inFlight {
		t.Errorf("%d frames came in a pause, want at most the %d in flight", count.Load(), inFlight)
	}
	l.control("a", resume)
	checkUtterance(t, <-all, "a", toneHz, 0, 3*len(longText))
}

// A pause belongs to the session: what is said in it waits too.
func TestPauseHoldsTheNextUtterance(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	l.open("b", nil)
	l.control("a", pause)
	s := l.speech("a")
	s.say("held")
	heard := s.listen()
	other := l.speech("b")
	other.say(longText)
	other.rest()
	select {
	case <-heard:
		t.Error("an utterance began in a pause")
	default:
	}
	l.control("a", resume)
	checkUtterance(t, collect(heard), "a", toneHz, 0, 12)
}

// enders are the two ways in which a session is silenced.
var enders = map[string]func(*loopback, string){
	"STOP":       func(l *loopback, id string) { l.control(id, stop) },
	"EndSession": (*loopback).endSession,
}

func TestAStoppedUtteranceEndsEarlyWithAnEndMarker(t *testing.T) {
	for name, end := range enders {
		t.Run(name, func(t *testing.T) {
			l := startWorker(t, Tone{}, 0)
			l.open("a", nil)
			s := l.speech("a")
			s.say(longText)
			frames := s.frames(5)
			end(l, "a")
			frames = append(frames, s.rest()...)
			last := len(frames) - 1
			if last >= 3*len(longText) {
				t.Fatalf("all %d frames came", last)
			}
			checkUtterance(t, frames, "a", toneHz, 0, last)
		})
	}
}

// In the middle of a language model's text the worker mostly waits for more.
func TestAStoppedUtteranceEndsWhileItsTextIsComingIn(t *testing.T) {
	for name, end := range enders {
		t.Run(name, func(t *testing.T) {
			l := startWorker(t, Tone{}, 0)
			ctx, cancel := context.WithTimeout(l.ctx, 10*time.Second)
			defer cancel()
			l.open("a", nil)
			stream, err := l.tts.Synthesize(ctx)
			if err != nil {
				t.Fatal(err)
			}
			s := &speech{t: t, id: "a", stream: stream}
			s.send("Hello. And", false)
			first := 3 * len("Hello. ")
			checkTone(t, s.frames(first), "a", toneHz, 0)
			end(l, "a")
			checkUtterance(t, s.rest(), "a", toneHz, first, first)
		})
	}
}

func TestAStoppedUtteranceEndsInAPause(t *testing.T) {
	for name, end := range enders {
		t.Run(name, func(t *testing.T) {
			l := startWorker(t, Tone{}, 0)
			l.open("a", nil)
			s := l.speech("a")
			s.say(longText)
			frames := s.frames(5)
			l.control("a", pause)
			end(l, "a")
			frames = append(frames, s.rest()...)
			checkUtterance(t, frames, "a", toneHz, 0, len(frames)-1)
			if len(frames) > 3*len(longText) {
				t.Error("the whole utterance came")
			}
		})
	}
}

func TestASessionSpeaksAgainAfterStop(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")
	s.say(longText)
	s.frames(5)
	l.control("a", pause)
	l.control("a", stop)
	s.rest()

	next := l.speech("a")
	next.say("next")
	checkUtterance(t, next.rest(), "a", toneHz, 0, 12)
}

func TestStopOfOneSessionLetsAnotherSpeak(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	l.open("b", map[string]string{"frequency": "880"})
	s := l.speech("b")
	s.say(longText)
	frames := s.frames(5)
	l.control("a", stop)
	l.endSession("a")
	checkUtterance(t, append(frames, s.rest()...), "b", 880, 0, 3*len(longText))
}

func TestEndSessionIsIdempotent(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.endSession("never started")
	l.open("a", nil)
	l.endSession("a")
	l.endSession("a")
	if code := l.synthesizeCode("a"); code != codes.NotFound {
		t.Errorf("Synthesize after EndSession answers %s, want NotFound", code)
	}
	l.open("a", nil)
	if code := l.synthesizeCode("a"); code != codes.OK {
		t.Errorf("Synthesize in the session started anew answers %s", code)
	}
}

func TestControlAnswers(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	tests := []struct {
		id      string
		command proto.ControlCommand
		success bool
		message string
	}{
		{"a", pause, true, ""},
		{"a", resume, true, ""},
		{"a", stop, true, ""},
		{"a", proto.ControlCommand_RELOAD, true, "reload"},
		{"a", 17, false, "17"},
		{"nobody", pause, false, "nobody"},
		{"nobody", resume, false, "nobody"},
		{"nobody", stop, false, "nobody"},
		{"", stop, false, "session"},
	}
	for _, tt := range tests {
		reply, err := l.tts.Control(l.ctx, &proto.ControlRequest{SessionId: tt.id, Command: tt.command})
		if err != nil {
			t.Fatalf("%s of %q: %v", tt.command, tt.id, err)
		}
		if reply.GetSuccess() != tt.success || !strings.Contains(reply.GetMessage(), tt.message) {
			t.Errorf("%s of %q answers %t, %q; want %t and %q", tt.command, tt.id, reply.GetSuccess(), reply.GetMessage(), tt.success, tt.message)
		}
		if reply.GetTimestampMs() == 0 {
			t.Errorf("%s of %q does not say when", tt.command, tt.id)
		}
	}
}
