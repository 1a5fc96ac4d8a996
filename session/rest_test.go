package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// streaming is a voice whose worker makes 300 frames, one so often, of which some wait to be
// read. It counts for how many the reader had to wait.
type streaming struct {
	fiveFrames
	every time.Duration
	waits *int
}

func (v streaming) Speaker(string, Params, string) Speaker { return v }

func (v streaming) Speak(_ context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	stream := make(chan Frame, 34)
	go func() {
		defer close(stream)
		for range 300 {
			time.Sleep(v.every)
			stream <- Frame{PCM: make([]byte, FrameBytes)}
		}
	}()
	for {
		asked := time.Now()
		f, more := <-stream
		if !more {
			return nil
		}
		f.Received = time.Now()
		if f.Received.After(asked) {
			*v.waits++
		}
		if err := emit(f); err != nil {
			return err
		}
	}
}

// A speaker whose frames come one by one, faster than they are played, reads them some at
// once as soon as there are enough to go on with, and none is late for that. Those that
// come at the pace of speech it takes as they come.
func TestFramesThatComeAloneAreReadTogether(t *testing.T) {
	for _, test := range []struct {
		every       time.Duration
		least, most int // waits
	}{
		{5 * time.Millisecond, 0, 30},
		{10 * time.Millisecond, 0, 40},
		{15 * time.Millisecond, 0, 60},
		{FrameDuration, 300, 300},
	} {
		synctest.Test(t, func(t *testing.T) {
			var waits int
			s, w := opened(t, roomy, streaming{every: test.every, waits: &waits})
			s.Receive([]byte(`{"type":"text","text":"speak"}`))
			time.Sleep(time.Minute) // of synctest's clock: all is spoken
			synctest.Wait()
			s.mu.Lock()
			heard, frames := s.story, s.sequence
			s.mu.Unlock()
			if waits < test.least || waits > test.most {
				t.Errorf("one every %s: it waited for %d frames, want %d to %d", test.every, waits, test.least, test.most)
			}
			if frames != 300 || heard.underruns > 0 || heard.lateness >= clockGrain {
				t.Errorf("one every %s: %d frames left, %d times the client ran dry, and one was %s late", test.every, frames, heard.underruns, heard.lateness)
			}
			for i, d := range w.left[1:] {
				if pause := d.millis - w.left[i].millis; pause > int64(FrameMillis) {
					t.Errorf("one every %s: after %v nothing left for %d ms", test.every, w.left[i], pause)
				}
			}
		})
	}
}
