package session

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
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

// A speaker that waits goes on when about half of the queue is left, and each time with
// another number.
func TestQueueIsLowAtAboutHalf(t *testing.T) {
	const length, times = 50, 200
	q := queue{pool: newQueuePool(length)}
	seen := map[int]bool{}
	for range times {
		for !q.full() {
			q.pushFrame(testFrame(0), true)
		}
		q.rest()
		for !q.low() {
			q.drop()
		}
		seen[q.n] = true
		if q.n < length/3 || q.n > length-length/3 {
			t.Fatalf("low with %d of %d", q.n, length)
		}
	}
	if len(seen) < 10 {
		t.Errorf("low with %d different numbers in %d times", len(seen), times)
	}
}

// fast is a voice that makes frames as fast as they are taken, and notes when it went on
// after it had to wait for room.
type fast struct {
	fiveFrames
	mu     *sync.Mutex
	wentOn *[]time.Time
}

func (v fast) Speaker(string, Params, string) Speaker { return v }

func (v fast) Speak(_ context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	for {
		before := time.Now()
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: before}); err != nil {
			return err
		}
		if now := time.Now(); now.After(before) {
			v.mu.Lock()
			*v.wentOn = append(*v.wentOn, now)
			v.mu.Unlock()
		}
	}
}

// Sessions that began to speak at once soon have their queues filled at different times,
// and those that began one after another some of them together.
func TestQueuesAreFilledSomeTogether(t *testing.T) {
	for _, apart := range []time.Duration{0, clockGrain} {
		synctest.Test(t, func(t *testing.T) {
			const sessions = 100
			cfg := roomy
			cfg.MaxSessions = sessions
			voice := fast{mu: new(sync.Mutex), wentOn: new([]time.Time)}
			hub := NewHub(cfg, voice, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
			defer hub.Close()
			all := hub.clocks.all
			hub.clocks.all = all[:1] // all sessions with one
			defer func() { hub.clocks.all = all }()
			for range sessions {
				s := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
				defer s.Close()
				s.Receive([]byte(`{"type":"text","text":"long"}`))
				time.Sleep(apart)
			}
			time.Sleep(5 * time.Second) // of synctest's clock
			synctest.Wait()
			voice.mu.Lock()
			defer voice.mu.Unlock()
			together, fills := map[time.Time]int{}, 0
			for _, at := range *voice.wentOn {
				if time.Since(at) < time.Second {
					together[at]++
					fills++
				}
			}
			if fills < sessions {
				t.Fatalf("begun %s apart: in a second, queues were filled %d times", apart, fills)
			}
			most := slices.Max(slices.Collect(maps.Values(together)))
			if most > fills/5 || len(together) > fills/2 {
				t.Errorf("begun %s apart: in a second, queues were filled %d times, up to %d at once, at %d times", apart, fills, most, len(together))
			}
		})
	}
}

// However small the queue, and alone or not, all is spoken, and at its pace.
func TestSmallQueuesAreFilled(t *testing.T) {
	for _, length := range []int{1, 2, 3, 6} {
		for _, interval := range []time.Duration{FrameDuration, MaxPacingInterval} {
			for sessions := 1; sessions <= 2; sessions++ {
				synctest.Test(t, func(t *testing.T) {
					const frames = 100
					cfg := roomy
					cfg.QueueFrames, cfg.PacingLead, cfg.PacingInterval = length, time.Duration(length)*FrameDuration, interval
					hub := NewHub(cfg, saying{frames: frames}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
					defer hub.Close()
					var open []*Session
					for range sessions {
						s := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}})
						defer s.Close()
						s.Receive([]byte(`{"type":"text","text":"a hundred frames"}`))
						open = append(open, s)
						time.Sleep(7 * time.Millisecond)
					}
					time.Sleep(frames * interval)
					synctest.Wait()
					for _, s := range open {
						s.mu.Lock()
						if s.sequence != frames || len(s.utterances) > 0 {
							t.Errorf("a queue of %d, %s between writes, %d sessions: %d of %d frames, and %d utterances are left",
								length, interval, sessions, s.sequence, frames, len(s.utterances))
						}
						if s.story.underruns > 0 && interval == FrameDuration && length > 1 {
							t.Errorf("a queue of %d, %d sessions: it ran dry %d times", length, sessions, s.story.underruns)
						}
						s.mu.Unlock()
					}
				})
			}
		}
	}
}
