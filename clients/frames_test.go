package clients

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

// tonePCM is the first n bytes of the tone.
func tonePCM(n int) []byte {
	var pcm []byte
	for i := 0; len(pcm) < n; i++ {
		pcm = worker.AppendTone(pcm, toneHz, i)
	}
	return pcm[:n]
}

// checkPCM wants the frames to be the audio, the last filled up with silence.
func checkPCM(t *testing.T, frames [][]byte, pcm []byte) {
	t.Helper()
	if odd := len(pcm) % session.FrameBytes; odd > 0 {
		pcm = append(bytes.Clone(pcm), make([]byte, session.FrameBytes-odd)...)
	}
	if want := len(pcm) / session.FrameBytes; len(frames) != want {
		t.Fatalf("%d frames came, want %d", len(frames), want)
	}
	for i, frame := range frames {
		if !bytes.Equal(frame, pcm[i*session.FrameBytes:(i+1)*session.FrameBytes]) {
			t.Fatalf("frame %d is not what the worker sent", i)
		}
	}
}

// reader is a worker's behaviour that first reads all the text.
func reader(then func(*utterance) error) func(*utterance) error {
	return func(u *utterance) error {
		if _, err := u.text(); err != nil {
			return err
		}
		return then(u)
	}
}

// sendPieces sends audio in pieces of so many bytes and then an end marker.
func sendPieces(u *utterance, pcm []byte, size int) error {
	for len(pcm) > 0 {
		n := min(size, len(pcm))
		if err := u.send(pcm[:n], false); err != nil {
			return err
		}
		pcm = pcm[n:]
	}
	return u.send(nil, true)
}

func TestFramesThatAWorkerMaySend(t *testing.T) {
	const fb = session.FrameBytes
	pieces := func(bytes, size int) func(*utterance) error {
		return func(u *utterance) error { return sendPieces(u, tonePCM(bytes), size) }
	}
	tests := []struct {
		name  string
		speak func(*utterance) error
		bytes int // of the tone that must come out
	}{
		{"whole frames and an end marker", pieces(3*fb, fb), 3 * fb},
		{"pieces of 100 bytes", pieces(20*fb+700, 100), 20*fb + 700},
		{"pieces of 5000 bytes", pieces(50*fb+2, 5000), 50*fb + 2},
		{"pieces of one byte", pieces(fb+1, 1), fb + 1},
		{"ten seconds at once", pieces(500*fb, 500*fb), 500 * fb},
		{"ten seconds and a bit at once", pieces(500*fb+6, 501*fb), 500*fb + 6},
		{"less than a frame", pieces(2, 2), 2},
		{"final with data is the last frame", func(u *utterance) error {
			if err := u.tone(0, 2); err != nil {
				return err
			}
			return u.send(worker.AppendTone(nil, toneHz, 2), true)
		}, 3 * fb},
		{"final with part of a frame", func(u *utterance) error {
			if err := u.tone(0, 2); err != nil {
				return err
			}
			return u.send(worker.AppendTone(nil, toneHz, 2)[:10], true)
		}, 2*fb + 10},
		{"final with data that ends what was begun", func(u *utterance) error {
			pcm := tonePCM(3 * fb)
			if err := u.send(pcm[:2*fb+100], false); err != nil {
				return err
			}
			return u.send(pcm[2*fb+100:], true)
		}, 3 * fb},
		{"a single final frame", func(u *utterance) error { return u.send(tonePCM(fb), true) }, fb},
		{"an end marker alone", func(u *utterance) error { return u.send(nil, true) }, 0},
		{"no final frame", func(u *utterance) error { return u.tone(0, 3) }, 3 * fb},
		{"no final frame and a part of one", func(u *utterance) error { return u.send(tonePCM(fb+50), false) }, fb + 50},
		{"no frame at all", func(*utterance) error { return nil }, 0},
		{"frames after the final one", func(u *utterance) error {
			if err := u.send(tonePCM(fb), true); err != nil {
				return err
			}
			return u.tone(1, 5)
		}, fb},
		{"frames after the end marker", func(u *utterance) error {
			if err := u.tone(0, 2); err != nil {
				return err
			}
			if err := u.send(nil, true); err != nil {
				return err
			}
			return u.tone(2, 5)
		}, 2 * fb},
		{"no sample rate and no session", func(u *utterance) error {
			for i := range 3 {
				if err := u.Send(&proto.AudioFrame{AudioData: worker.AppendTone(nil, toneHz, i)}); err != nil {
					return err
				}
			}
			return u.Send(&proto.AudioFrame{IsFinal: true})
		}, 3 * fb},
		{"a failure after the final frame", func(u *utterance) error {
			if err := u.send(tonePCM(fb), true); err != nil {
				return err
			}
			return status.Error(codes.Internal, "it was too late anyway")
		}, fb},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := startWorker(t, "a", func(w *ttsWorker) { preferred(w); w.speak = reader(tt.speak) })
			b := startWorker(t, "b", nil)
			e := startEdge(t, poolConfig(), a, b)
			checkPCM(t, e.hear(e.session("s", voice), "text"), tonePCM(tt.bytes))
			if calls := b.heard(""); len(calls) != 0 {
				t.Errorf("another worker got %q", calls)
			}
			if calls := a.heard("cancelled"); len(calls) != 0 {
				t.Error("the worker saw its good utterance cancelled")
			}
		})
	}
}

// faults are frames that no worker may send.
var faults = map[string]func(*utterance) error{
	"no audio and not final": func(u *utterance) error { return u.send(nil, false) },
	"audio of another session": func(u *utterance) error {
		return u.Send(&proto.AudioFrame{SessionId: "other", AudioData: make([]byte, session.FrameBytes), SampleRate: session.SampleRate})
	},
	"an end marker of another session": func(u *utterance) error { return u.Send(&proto.AudioFrame{SessionId: "other", IsFinal: true}) },
	"audio at another rate": func(u *utterance) error {
		return u.Send(&proto.AudioFrame{SessionId: u.id, AudioData: make([]byte, session.FrameBytes), SampleRate: 24000})
	},
	"much beside the audio": func(u *utterance) error {
		return u.Send(&proto.AudioFrame{SessionId: u.id, AudioData: make([]byte, session.FrameBytes), Traceparent: strings.Repeat("x", maxBeside)})
	},
	"more than gRPC takes at once": func(u *utterance) error { return u.send(make([]byte, 5<<20), false) },
}

func TestFramesThatAreTheWorkersFault(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			a := startWorker(t, "a", func(w *ttsWorker) {
				preferred(w)
				w.speak = reader(func(u *utterance) error {
					if err := u.tone(0, 2); err != nil {
						return err
					}
					if err := fault(u); err != nil {
						return err
					}
					return u.hang()
				})
			})
			b := startWorker(t, "b", nil)
			e := startEdge(t, poolConfig(), a, b)
			e.hearTone(e.session("s", voice), "text")
			a.await("cancelled s")
			if calls := b.heard("Synthesize"); len(calls) != 1 {
				t.Errorf("the other worker got %q, want one", calls)
			}
			if !e.failed("a") {
				t.Error("the failure does not count against the worker")
			}
		})
	}
}

// What comes after the final frame is not audio to anyone, and an utterance
// whose end has come must end.
func TestAWorkerThatGoesOnAfterTheFinalFrame(t *testing.T) {
	tests := map[string]func(*utterance) error{
		"says nothing": (*utterance).hang,
		"speaks on": func(u *utterance) error {
			for {
				if err := u.tone(3, 4); err != nil {
					return err
				}
			}
		},
	}
	for name, after := range tests {
		t.Run(name, func(t *testing.T) {
			w := startWorker(t, "a", func(w *ttsWorker) {
				w.speak = func(u *utterance) error {
					if err := u.tone(0, 3); err != nil {
						return err
					}
					if err := u.send(nil, true); err != nil {
						return err
					}
					return after(u)
				}
			})
			e := startEdge(t, poolConfig(), w)
			s := e.session("s", session.Params{})
			ctx, cancel := context.WithTimeout(e.ctx, patience/3)
			defer cancel()
			var ear ear
			if err := s.Speak(ctx, script("x"), session.Place{}, new(uint64), ear.emit); err != nil {
				t.Fatal(err)
			}
			if ctx.Err() != nil {
				t.Error("the utterance ended only because the test gave up")
			}
			checkTone(t, ear.frames, toneHz, 0, 3)
			w.await("cancelled s")
		})
	}
}

// What the recorder needs for a frame's trace comes through with its frame.
func TestFramesCarryTheWorkersTrace(t *testing.T) {
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = reader(func(u *utterance) error {
			return u.Send(&proto.AudioFrame{
				SessionId: u.id, AudioData: tonePCM(session.FrameBytes), SampleRate: session.SampleRate,
				IsFinal: true, Traceparent: traceparent, EmittedUnixNano: 12345,
			})
		})
	})
	e := startEdge(t, poolConfig(), w)
	var heard []session.Frame
	err := e.speak(e.session("s", session.Params{}), "text", func(f session.Frame) error {
		heard = append(heard, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(heard) != 1 || string(heard[0].Traceparent) != traceparent || heard[0].Emitted != 12345 || heard[0].Received.IsZero() {
		t.Errorf("the frames are %+v", heard)
	}
}

// A worker that never ends fills no edge and speaks to nobody for ever.
func TestAWorkerThatSpeaksWithoutEndIsLeft(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = reader(func(u *utterance) error {
			frame := &proto.AudioFrame{AudioData: make([]byte, session.FrameBytes)}
			for {
				if err := u.Send(frame); err != nil {
					return err
				}
			}
		})
	})
	e := startEdge(t, poolConfig(), w)
	frames := 0
	err := e.speak(e.session("s", session.Params{}), "hi", func(session.Frame) error { frames++; return nil })
	if _, ok := errors.AsType[*session.Error](err); !ok || frames > boundless+3*boundlessRune {
		t.Errorf("%d frames, and then %v", frames, err)
	}
}
