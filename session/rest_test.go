package session

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
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
			hub := NewHub(roomy, streaming{every: test.every, waits: &waits}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
			defer hub.Close()
			if err := hub.Admit(); err != nil {
				t.Fatal(err)
			}
			defer hub.Leave()
			w := &wire{}
			s := hub.Open(w, Opening{Params: Params{Pacing: Realtime}})
			defer s.Close()
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
		})
	}
}
