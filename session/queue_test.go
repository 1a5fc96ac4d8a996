package session

import (
	"bytes"
	"testing"
	"time"
)

func testFrame(i int) Frame {
	return Frame{PCM: bytes.Repeat([]byte{byte(i)}, FrameBytes), Emitted: int64(i)}
}

func pcmOf(e *entry) []byte { return e.message[webSocketHeader+binaryHeader:] }

func TestQueueKeepsOrderOverManyTurns(t *testing.T) {
	q := queue{pool: newQueuePool(7)}
	u := &utterance{}
	in, out := 0, 0
	for round := range 100 {
		for !q.full() {
			q.pushFrame(u, testFrame(in), true, time.Now())
			in++
		}
		for range 1 + round%7 {
			e := q.front()
			if e == nil {
				break
			}
			if e.emitted != int64(out) || !bytes.Equal(pcmOf(e), testFrame(out).PCM) {
				t.Fatalf("frame %d came out as %d", out, e.emitted)
			}
			q.pop()
			out++
		}
	}
}

func TestQueueCopiesTheSamples(t *testing.T) {
	q := queue{pool: newQueuePool(2)}
	f := testFrame(1)
	q.pushFrame(&utterance{}, f, true, time.Now())
	f.PCM[0] = 99
	if pcmOf(q.front())[0] != 1 {
		t.Error("the queue shares the speaker's buffer")
	}
}

func TestQueueGivesItsMemoryBack(t *testing.T) {
	q := queue{pool: newQueuePool(3)}
	if q.memory != nil {
		t.Fatal("an empty queue has memory")
	}
	q.pushFrame(&utterance{}, testFrame(1), true, time.Now())
	q.pushEnd(&utterance{}, nil)
	if n := q.clear(); n != 1 {
		t.Errorf("clear dropped %d frames, want 1", n)
	}
	if q.memory != nil || q.front() != nil {
		t.Error("a cleared queue holds on to something")
	}
}

func TestQueueIsLowAtHalf(t *testing.T) {
	q := queue{pool: newQueuePool(10)}
	for !q.full() {
		q.pushFrame(&utterance{}, testFrame(0), true, time.Now())
	}
	for n := 10; n > 5; n-- {
		if q.low() {
			t.Fatalf("low with %d of 10", n)
		}
		q.pop()
	}
	if !q.low() {
		t.Error("not low with 5 of 10")
	}
}
