package e2e

import (
	"fmt"
	"sync"
	"testing"
)

// A story of short sentences, a quarter of a minute of speech.
const story = "There was a fox. He lived in the wood! Did he sleep by day? He did, and at night he went to the farm. " +
	"The farmer had a dog, whose name was Rex. Rex did not sleep at night. One night the two met; it was cold."

// deep is how many frames of the story are heard before the fault.
const deep = 300

// deepIn has the story spoken by espeak-ng, and once more with a fault deep in
// it: it must sound the same to the last bit.
func deepIn(t *testing.T, fault func(), urls ...string) {
	t.Helper()
	c := connect(t, urls[0]+"/v1/stream?pacing=none")
	c.say(story)
	pcm, _ := c.hearUtterance(0)
	l := listen(t, "", urls...)
	for ; len(pcm) > 0; pcm = pcm[1920:] {
		l.sound = append(l.sound, pcm[:1920])
	}
	if len(l.sound) < deep+200 {
		t.Fatalf("the story has only %d frames", len(l.sound))
	}
	var once sync.Once
	l.heard = func(sequence uint64) {
		if sequence == deep {
			once.Do(fault)
		}
	}
	l.say(story)
	if end := l.hear(1); end.Reason != "completed" || end.LastSequence != uint64(len(l.sound)) {
		t.Errorf("%+v, want %d frames", end, len(l.sound))
	}
}

// aSentence is more frames than any sentence of the story, and a queue besides.
const aSentence = 150 + 50

func checkSpokenAgain(t *testing.T, line map[string]any) {
	t.Helper()
	if n := line["spoken_again"].(float64); n > aSentence {
		t.Errorf("%v frames were spoken again, more than a sentence: %v", n, line)
	}
}

func TestFaultWorkerKilledDeepInAnUtterance(t *testing.T) {
	need(t, "espeak-ng")
	s := startSystem(t)
	workers := map[string]*process{"w1": s.worker("w1", "WORKER_ENGINE=espeak"), "w2": s.worker("w2", "WORKER_ENGINE=espeak")}
	edge, url := s.edge("LOG_LEVEL=debug", "PACING_LEAD=1s")
	edge.await(1, "worker is healthy", "worker", "w1")
	edge.await(1, "worker is healthy", "worker", "w2")
	deepIn(t, func() {
		workers[fmt.Sprint(edge.await(2, "session bound to a worker")["worker"])].kill()
	}, url)
	line := edge.await(1, "a worker failed; the utterance goes on elsewhere")
	if done := line["frames_done"].(float64); done < deep {
		t.Errorf("%v frames were done", done)
	}
	checkSpokenAgain(t, line)
}

func TestFaultEdgeKilledDeepInAnUtterance(t *testing.T) {
	need(t, "espeak-ng")
	s := startSystem(t)
	s.worker("w1", "WORKER_ENGINE=espeak")
	first, url1 := s.edge()
	second, url2 := s.edge()
	first.await(1, "worker is healthy")
	second.await(1, "worker is healthy")
	deepIn(t, func() { first.kill() }, url1, url2)
	line := second.await(1, "session resumed")
	if after := line["after"].(float64); after < deep {
		t.Errorf("it was resumed after frame %v", after)
	}
	checkSpokenAgain(t, line)
}
