package clients

import (
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// chunk is what a TextChunk says.
type chunk struct {
	session, text string
	final         bool
	number        int64
}

func chunkOf(c *proto.TextChunk) chunk {
	return chunk{c.GetSessionId(), c.GetText(), c.GetIsFinal(), c.GetSequenceNumber()}
}

// listener is a worker that tells of each chunk, and of the half-close by
// closing the channel; then it speaks.
func listener(chunks chan<- chunk) func(*utterance) error {
	return func(u *utterance) error {
		frames := 0
		for {
			c, err := u.next()
			if errors.Is(err, io.EOF) {
				close(chunks)
				break
			}
			if err != nil {
				return err
			}
			frames += framesOf(c.GetText())
			chunks <- chunkOf(c)
		}
		if err := u.tone(0, frames); err != nil {
			return err
		}
		return u.send(nil, true)
	}
}

func TestAWorkerMaySpeakOnlyAfterTheHalfClose(t *testing.T) {
	chunks := make(chan chunk, 10)
	w := startWorker(t, "a", func(w *ttsWorker) { w.speak = listener(chunks) })
	e := startEdge(t, poolConfig(), w)
	e.hearTone(e.session("s", session.Params{}), "whole")
	var got []chunk
	for c := range chunks {
		got = append(got, c)
	}
	if want := []chunk{{"s", "whole", true, 1}}; !slices.Equal(got, want) {
		t.Errorf("the worker got %v, want %v", got, want)
	}
}

// Each piece is added only when the worker has the one before, so none waits
// for the text to be complete.
func TestPartialTextArrivesAsItComes(t *testing.T) {
	chunks := make(chan chunk)
	w := startWorker(t, "a", func(w *ttsWorker) { w.speak = listener(chunks) })
	e := startEdge(t, poolConfig(), w)
	text := session.NewScript()
	text.Add("one ", false)
	sp, _ := e.start(e.session("s", session.Params{}), text, nil)
	got := []chunk{await(t, "the first chunk", chunks)}
	text.Add("two ", false)
	got = append(got, await(t, "the second chunk", chunks))
	text.Add("three", true)
	got = append(got, await(t, "the last chunk", chunks))
	want := []chunk{{"s", "one ", false, 1}, {"s", "two ", false, 2}, {"s", "three", true, 3}}
	if !slices.Equal(got, want) {
		t.Errorf("the worker got %v, want %v", got, want)
	}
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("one two three"))
}

func TestTextThatIsEndedByNothing(t *testing.T) {
	chunks := make(chan chunk)
	w := startWorker(t, "a", func(w *ttsWorker) { w.speak = listener(chunks) })
	e := startEdge(t, poolConfig(), w)
	text := session.NewScript()
	text.Add("all", false)
	sp, _ := e.start(e.session("s", session.Params{}), text, nil)
	got := []chunk{await(t, "the text", chunks)}
	text.Add("", true)
	got = append(got, await(t, "the end of the text", chunks))
	if want := []chunk{{"s", "all", false, 1}, {"s", "", true, 2}}; !slices.Equal(got, want) {
		t.Errorf("the worker got %v, want %v", got, want)
	}
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("all"))
}

// A language model's text is heard while it is being written.
func TestFramesComeWhileTheTextIsComingIn(t *testing.T) {
	w := startWorker(t, "a", func(w *ttsWorker) {
		w.speak = func(u *utterance) error {
			for at := 0; ; {
				c, err := u.next()
				if errors.Is(err, io.EOF) {
					return u.send(nil, true)
				}
				if err != nil {
					return err
				}
				to := at + framesOf(c.GetText())
				if err := u.tone(at, to); err != nil {
					return err
				}
				at = to
			}
		}
	})
	e := startEdge(t, poolConfig(), w)
	text := session.NewScript()
	text.Add("first", false)
	sp, began := e.start(e.session("s", session.Params{}), text, nil)
	await(t, "the first frame", began)
	text.Add(" and last", true)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("first and last"))
}

// A worker that fails while the text is coming in has had pieces of it, which
// the next one needs too.
func TestAnotherWorkerGetsTheTextFromItsStart(t *testing.T) {
	had := make(chan chunk)
	a := startWorker(t, "a", func(w *ttsWorker) {
		preferred(w)
		w.speak = func(u *utterance) error {
			c, err := u.next()
			if err != nil {
				return err
			}
			if err := u.tone(0, framesOf(c.GetText())); err != nil {
				return err
			}
			had <- chunkOf(c)
			return status.Error(codes.Internal, "out of memory")
		}
	})
	chunks := make(chan chunk)
	b := startWorker(t, "b", func(w *ttsWorker) { w.speak = listener(chunks) })
	e := startEdge(t, poolConfig(), a, b)
	text := session.NewScript()
	text.Add("one ", false)
	sp, _ := e.start(e.session("s", voice), text, nil)
	await(t, "the first chunk", had)
	got := []chunk{await(t, "the first chunk again", chunks)}
	text.Add("two", true)
	got = append(got, await(t, "the last chunk", chunks))
	id := got[0].session
	if want := []chunk{{id, "one ", false, 1}, {id, "two", true, 2}}; !slices.Equal(got, want) {
		t.Errorf("the other worker got %v, want %v", got, want)
	}
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("one two"))
}
