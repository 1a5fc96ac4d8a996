package clients

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

// An utterance of three sentences, of which some lie in several pieces of its text, and
// the places where they begin.
const sentences = "Où? Two sentences. Three."

var (
	pieces      = []string{"O", "ù? Two", " sentences. Thr", "ee."}
	secondPlace = session.Place{Frames: uint64(framesOf("Où? ")), Runes: 4}
	thirdPlace  = session.Place{Frames: uint64(framesOf("Où? Two sentences. ")), Runes: 19}
)

func inPieces() *session.Script {
	s := session.NewScript()
	for _, piece := range pieces {
		s.Add(piece, false)
	}
	s.Add("", true)
	return s
}

// speakPlaces speaks what is left of the sentences, whose beginnings it names, as the tone
// goes on there. It takes down what it was given and fails before the frame, if there is
// such a one.
func speakPlaces(given *[]string, fails ...int) func(*utterance) error {
	return func(u *utterance) error {
		text, err := u.text()
		if err != nil {
			return err
		}
		*given = append(*given, text)
		from := utf8.RuneCountInString(sentences) - utf8.RuneCountInString(text)
		for i := framesOf(sentences[:len(sentences)-len(text)]); i < framesOf(sentences); i++ {
			if slices.Contains(fails, i) {
				return status.Error(codes.Internal, "out of memory")
			}
			frame := &proto.AudioFrame{AudioData: worker.AppendTone(nil, toneHz, i)}
			for _, p := range []session.Place{secondPlace, thirdPlace} {
				if p.Frames == uint64(i) && p.Runes > from { //nolint:gosec // a count
					frame.TextBefore = int64(p.Runes - from)
				}
			}
			if err := u.Send(frame); err != nil {
				return err
			}
		}
		return u.send(nil, true)
	}
}

func TestFailoverBeginsAtTheSentence(t *testing.T) {
	frames := framesOf(sentences)
	tests := []struct {
		fails []int
		given []string
	}{
		{[]int{1}, []string{sentences, sentences}},
		{[]int{int(secondPlace.Frames)}, []string{sentences, sentences}}, // before it was named
		{[]int{int(secondPlace.Frames) + 1}, []string{sentences, "Two sentences. Three."}},
		{[]int{int(thirdPlace.Frames)}, []string{sentences, "Two sentences. Three."}},
		{[]int{frames - 1}, []string{sentences, "Three."}},
		{[]int{int(secondPlace.Frames) + 5, frames - 2}, []string{sentences, "Two sentences. Three.", "Three."}},
		{[]int{frames - 1, int(thirdPlace.Frames) + 1}, []string{sentences, "Three.", "Three."}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.fails), func(t *testing.T) {
			var given []string // by one attempt after another
			var workers []*ttsWorker
			for i := range len(tt.fails) + 1 {
				workers = append(workers, startWorker(t, fmt.Sprint("w", i), func(w *ttsWorker) {
					w.speak = func(u *utterance) error {
						return speakPlaces(&given, tt.fails[len(given):min(len(given)+1, len(tt.fails))]...)(u)
					}
				}))
			}
			e := startEdge(t, poolConfig(), workers...)
			var ear ear
			if err := e.session("s", session.Params{}).Speak(e.ctx, inPieces(), session.Place{}, new(uint64), ear.emit); err != nil {
				t.Fatal(err)
			}
			checkTone(t, ear.frames, toneHz, 0, frames)
			if !slices.Equal(given, tt.given) {
				t.Errorf("the workers were given %q, want %q", given, tt.given)
			}
		})
	}
}

// Each frame says behind which place it lies, so that the session knows of those that its
// client has already.
func TestFramesTellTheirPlace(t *testing.T) {
	for _, tt := range []struct {
		from session.Place
		skip uint64
		text string
	}{
		{skip: 0, text: sentences},
		{skip: secondPlace.Frames, text: sentences},
		{skip: thirdPlace.Frames + 2, text: sentences},
		{secondPlace, 0, "Two sentences. Three."},
		{secondPlace, thirdPlace.Frames - secondPlace.Frames + 1, "Two sentences. Three."},
		{thirdPlace, 7, "Three."},
	} {
		t.Run(fmt.Sprint(tt.from, tt.skip), func(t *testing.T) {
			var given []string
			e := startEdge(t, poolConfig(), startWorker(t, "a", func(w *ttsWorker) { w.speak = speakPlaces(&given) }))
			at, left := tt.from.Frames+tt.skip, tt.skip
			err := e.session("s", session.Params{}).Speak(e.ctx, inPieces(), tt.from, &left, func(f session.Frame) error {
				var want session.Place
				for _, p := range []session.Place{secondPlace, thirdPlace} {
					if p.Frames <= at {
						want = p
					}
				}
				if f.Place != want {
					t.Errorf("frame %d is behind %+v, want %+v", at, f.Place, want)
				}
				at++
				return nil
			})
			if err != nil || at != uint64(framesOf(sentences)) { //nolint:gosec // a count
				t.Errorf("%d frames, %v", at, err)
			}
			if !slices.Equal(given, []string{tt.text}) {
				t.Errorf("the worker was given %q, want %q", given, tt.text)
			}
		})
	}
}

// What a place says must be so, or text would be lost: a worker that names one that cannot
// be is not believed what it named before either.
func TestPlacesThatCannotBe(t *testing.T) {
	tests := []struct {
		name   string
		before func(i int) int64 // what is named at each frame
		cause  string
	}{
		{"before the text", at(3, -1), "behind -1 characters of 25"},
		{"behind the text", at(3, 26), "behind 26 characters of 25"},
		{"far behind it", at(3, 1<<63-1), "characters of 25"},
		{"back", at(3, 9, 8), "behind 8 characters of 25, and did behind 9 before"},
		{"twice the same", at(3, 9, 9), "behind 9 characters of 25, and did behind 9 before"},
		{"always the same", func(int) int64 { return 7 }, "behind 7 characters of 25, and did behind 7 before"},
		{"one more at every frame", func(i int) int64 { return int64(i) }, "behind 26 characters of 25"},
		{"the end, again and again", at(3, 25, 25), "behind 25 characters of 25"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := startWorker(t, "a", func(w *ttsWorker) {
				preferred(w)
				w.speak = reader(func(u *utterance) error {
					for i := range framesOf(sentences) {
						if err := u.Send(&proto.AudioFrame{AudioData: worker.AppendTone(nil, toneHz, i), TextBefore: tt.before(i)}); err != nil {
							return err
						}
					}
					return u.hang()
				})
			})
			var given []string
			e := startEdge(t, poolConfig(), a, startWorker(t, "b", func(w *ttsWorker) { w.speak = speakPlaces(&given) }))
			var ear ear
			if err := e.session("s", voice).Speak(e.ctx, inPieces(), session.Place{}, new(uint64), ear.emit); err != nil {
				t.Fatal(err)
			}
			checkTone(t, ear.frames, toneHz, 0, framesOf(sentences))
			if !slices.Equal(given, []string{sentences}) {
				t.Errorf("the next worker was given %q", given)
			}
			if !e.failed("a") {
				t.Error("it does not count against the worker")
			}
			if lines := e.log.find("a worker failed; the utterance goes on elsewhere"); len(lines) != 1 || !strings.Contains(lines[0].attrs["cause"], tt.cause) {
				t.Errorf("the log says %v, want %q", lines, tt.cause)
			}
		})
	}
}

// at names the numbers at the frame and those behind it.
func at(frame int, named ...int64) func(int) int64 {
	return func(i int) int64 {
		if i < frame || i >= frame+len(named) {
			return 0
		}
		return named[i-frame]
	}
}

// A place is at a frame's start, or what comes behind it would be cut elsewhere.
func TestAPlaceWithinAFrame(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = reader(func(u *utterance) error {
			if err := u.send(tonePCM(session.FrameBytes+100), false); err != nil {
				return err
			}
			if err := u.Send(&proto.AudioFrame{AudioData: tonePCM(session.FrameBytes), TextBefore: 4}); err != nil {
				return err
			}
			return u.hang()
		})
	})
	e := startEdge(t, poolConfig(), a, startWorker(t, "b", nil))
	e.hearTone(e.session("s", voice), "hello")
	if lines := e.log.find("a worker failed; the utterance goes on elsewhere"); len(lines) != 1 || !strings.Contains(lines[0].attrs["cause"], "within a frame") {
		t.Errorf("the log says %v", lines)
	}
}

// Characters that no sound was made of, it may be, or a mistake: to leave them out gains
// nothing.
func TestTheFirstMessageNamesNoPlace(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = reader(func(u *utterance) error {
			if err := u.Send(&proto.AudioFrame{AudioData: worker.AppendTone(nil, toneHz, 0), TextBefore: 7}); err != nil {
				return err
			}
			return status.Error(codes.Internal, "out of memory")
		})
	})
	var given []string
	e := startEdge(t, poolConfig(), a, startWorker(t, "b", func(w *ttsWorker) { w.speak = speakPlaces(&given) }))
	e.hearTone(e.session("s", voice), sentences)
	if !slices.Equal(given, []string{sentences}) {
		t.Errorf("the next worker was given %q", given)
	}
}

// A worker may say that all is spoken, of the silence behind it or at the end: nothing
// could begin there.
func TestTheTextsEndIsNoPlace(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = reader(func(u *utterance) error {
			last := framesOf("hello") - 1
			if err := u.tone(0, last); err != nil {
				return err
			}
			if err := u.Send(&proto.AudioFrame{AudioData: worker.AppendTone(nil, toneHz, last), TextBefore: 5}); err != nil {
				return err
			}
			return u.Send(&proto.AudioFrame{IsFinal: true, TextBefore: 5})
		})
	})
	e := startEdge(t, poolConfig(), w)
	e.hearTone(e.session("s", session.Params{}), "hello")
}
