package clients

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

// Fifty sessions speak at once over one connection, each in its own pitch. Each
// must hear its own and nothing else, bit by bit, in every utterance.
func TestManySessionsOverOneConnection(t *testing.T) {
	const sessions, utterances = 50, 3
	reference := startReference(t, worker.Tone{})
	e := startEdgeAt(t, poolConfig(), Static{reference.announcement()})
	e.awaitHealthy(1)
	e.endHealthChecks()
	var speaking sync.WaitGroup
	for i := range sessions {
		hz := 200 + 10*i
		s := e.session(fmt.Sprint("s", i), session.Params{Options: map[string]string{"frequency": fmt.Sprint(hz)}})
		speaking.Go(func() {
			for k := range utterances {
				text := strings.Repeat("x", 3+(i+7*k)%10)
				var ear ear
				if err := e.speak(s, text, ear.emit); err != nil {
					t.Errorf("session %d: %v", i, err)
					return
				}
				if err := toneError(ear.frames, float64(hz), 0, framesOf(text)); err != nil {
					t.Errorf("session %d, utterance %d: %v", i, k, err)
					return
				}
			}
		})
	}
	speaking.Wait()
	if n := e.worker("reference").sessions.Load(); n != sessions {
		t.Errorf("the edge counts %d sessions, want %d", n, sessions)
	}
	e.close()
	if n := reference.sessions(t); n != 0 {
		t.Errorf("the worker is left with %g sessions", n)
	}
}

// inFlight is how many frames a worker can send that nobody has taken: the
// stream's window, gRPC's own buffer of 64 KiB at the worker, and what is in
// somebody's hands.
const inFlight = (streamWindow+64<<10)/session.FrameBytes + 4

const longFrames = 2000 // far more than can be in flight

// counter is a worker whose session "held" speaks longFrames frames and counts
// them; other sessions speak their text.
func counter(sent *atomic.Int64) func(*ttsWorker) {
	return func(w *ttsWorker) {
		w.speak = func(u *utterance) error {
			if !strings.HasPrefix(u.id, "held") {
				return speakTone(u)
			}
			if _, err := u.text(); err != nil {
				return err
			}
			for i := range longFrames {
				if err := u.tone(i, i+1); err != nil {
					return err
				}
				sent.Add(1)
			}
			return u.send(nil, true)
		}
	}
}

// A client that takes nothing holds its worker up by flow control. That another
// session hears much more meanwhile shows that the worker would have had the
// time to send it all.
func TestAClientThatTakesNothingHoldsTheWorker(t *testing.T) {
	var sent atomic.Int64
	w := startWorker(t, "a", counter(&sent))
	e := startEdge(t, poolConfig(), w)
	e.endHealthChecks()
	hold := make(chan struct{})
	sp, began := e.start(e.session("held", session.Params{}), script("text"), hold)
	await(t, "the first frame", began)
	other := e.session("other", session.Params{})
	for range 2 {
		e.hearTone(other, strings.Repeat("x", longFrames/worker.ToneFramesPerRune))
	}
	if n := int(sent.Load()); n > inFlight {
		t.Errorf("the worker sent %d frames of which one was taken, want at most %d", n, inFlight)
	}
	close(hold)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, longFrames)
}

// Together they hold far more than the connection's window.
func TestClientsThatTakeNothingDoNotHoldOthers(t *testing.T) {
	const held = 3 * connWindow / streamWindow
	var sent atomic.Int64
	w := startWorker(t, "a", counter(&sent))
	e := startEdge(t, poolConfig(), w)
	e.endHealthChecks()
	hold := make(chan struct{})
	var speeches []*speech
	for i := range held {
		sp, began := e.start(e.session(fmt.Sprint("held", i), session.Params{}), script("text"), hold)
		await(t, "the first frame", began)
		speeches = append(speeches, sp)
	}
	e.hearTone(e.session("other", session.Params{}), strings.Repeat("x", longFrames/worker.ToneFramesPerRune))
	if n := int(sent.Load()); n > held*inFlight {
		t.Errorf("the worker sent %d frames to %d clients that took one each, want at most %d", n, held, held*inFlight)
	}
	for _, sp := range speeches {
		sp.stop()
		<-sp.done
	}
	e.hearTone(e.session("next", session.Params{}), "all of the window has come back")
}
