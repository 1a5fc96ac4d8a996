package session

import (
	"bytes"
	"testing"
)

func testFrame(i int) Frame {
	return Frame{PCM: bytes.Repeat([]byte{byte(i)}, FrameBytes), Emitted: int64(i)}
}

func pcmOf(e *entry) []byte { return e.message[webSocketHeader+binaryHeader : e.size] }

func TestQueueKeepsOrderOverManyTurns(t *testing.T) {
	q := queue{pool: newQueuePool(7)}
	in, out := 0, 0
	for round := range 100 {
		for !q.full() {
			q.pushFrame(testFrame(in), true)
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
			q.drop()
			out++
		}
	}
}

// What was written keeps its place until it is noted, or until nothing else has
// room.
func TestQueueKeepsWhatIsNotNoted(t *testing.T) {
	for _, length := range []int{1, 2, 7, 50} {
		q := queue{pool: newQueuePool(length)}
		in, noted := 0, 0
		note := func() {
			for i := -q.unnoted; i < 0; i++ {
				if e := q.at(i); e.emitted != int64(noted) {
					t.Fatalf("%d: frame %d is noted as %d", length, noted, e.emitted)
				}
				noted++
			}
			q.noted()
		}
		for round := range 100 {
			for !q.full() {
				if q.crowded() {
					note()
				}
				q.pushFrame(testFrame(in), true)
				in++
			}
			for range 1 + round%length {
				if q.unnoted == noteEvery {
					note()
				}
				q.pop()
			}
		}
		if note(); noted != in-q.n {
			t.Errorf("%d: of %d frames %d were noted", length, in-q.n, noted)
		}
	}
}

func TestQueueCopiesTheSamples(t *testing.T) {
	q := queue{pool: newQueuePool(2)}
	f := testFrame(1)
	q.pushFrame(f, true)
	f.PCM[0] = 99
	if pcmOf(q.front())[0] != 1 {
		t.Error("the queue shares the speaker's buffer")
	}
}

func TestQueueGivesItsMemoryBack(t *testing.T) {
	q := queue{pool: newQueuePool(3)}
	if q.entries != nil {
		t.Fatal("an empty queue has memory")
	}
	q.pushFrame(testFrame(1), true)
	q.pushEnd()
	if n := q.clear(); n != 1 {
		t.Errorf("clear dropped %d frames, want 1", n)
	}
	if q.entries != nil || q.front() != nil {
		t.Error("a cleared queue holds on to something")
	}
}

func TestQueueIsLowAtHalf(t *testing.T) {
	q := queue{pool: newQueuePool(10)}
	for !q.full() {
		q.pushFrame(testFrame(0), true)
	}
	for n := 10; n > 5; n-- {
		if q.low() {
			t.Fatalf("low with %d of 10", n)
		}
		q.drop()
	}
	if !q.low() {
		t.Error("not low with 5 of 10")
	}
}
