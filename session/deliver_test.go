package session

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// wire is a Conn that takes everything, and notes what went out in one piece.
type wire struct {
	corked bool
	writes [][]string // types of messages
}

func (w *wire) write(kind string) error {
	if last := len(w.writes) - 1; w.corked {
		w.writes[last] = append(w.writes[last], kind)
	} else {
		w.writes = append(w.writes, []string{kind})
	}
	return nil
}

func (w *wire) WriteFrame([]byte) error { return w.write("audio") }

func (w *wire) WriteText(p []byte) error {
	_, after, _ := bytes.Cut(p, []byte(`"type":"`))
	kind, _, _ := bytes.Cut(after, []byte(`"`))
	return w.write(string(kind))
}

func (w *wire) Cork()                     { w.corked, w.writes = true, append(w.writes, nil) }
func (w *wire) Uncork() error             { w.corked = false; return nil }
func (w *wire) Blocked() bool             { return false }
func (w *wire) Flush(time.Duration) error { return nil }
func (w *wire) Ping() error               { return nil }
func (w *wire) Close(int, string)         {}
func (w *wire) Abort()                    {}

// fiveFrames is a voice that has five frames to say to anything.
type fiveFrames struct{}

func (fiveFrames) Speaker(string, Params, string) Speaker { return fiveFrames{} }

func (fiveFrames) Speak(_ context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	for range 5 {
		if err := emit(Frame{PCM: make([]byte, FrameBytes)}); err != nil {
			return err
		}
	}
	return nil
}

func (fiveFrames) Control(Command)          {}
func (fiveFrames) Worker() (string, string) { return "", "" }
func (fiveFrames) Close()                   {}

// A session that is held up catches up in one write, so that an edge with more
// than it can do has less to do.
func TestWhatIsDueTogetherLeavesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := NewHub(roomy, fiveFrames{}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
		defer hub.Close()
		if err := hub.Admit(); err != nil {
			t.Fatal(err)
		}
		defer hub.Leave()
		w := &wire{}
		s := hub.Open(w, Opening{Params: Params{Pacing: Realtime}})
		defer s.Close()

		s.Receive([]byte(`{"type":"control","command":"PAUSE"}`))
		s.Receive([]byte(`{"type":"text","text":"five"}`))
		synctest.Wait() // until all five are queued
		s.mu.Lock()
		w.writes = nil
		s.mu.Unlock()
		s.Receive([]byte(`{"type":"control","command":"RESUME"}`))
		time.Sleep(time.Second) // of synctest's clock: all are spoken
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		want := "[[audio audio audio] [audio] [audio] [utterance_end]]"
		if got := fmt.Sprint(w.writes); got != want {
			t.Errorf("what was written, by write, is %s, want %s", got, want)
		}
	})
}

// With a longer interval frames leave together, never more than the lead ahead
// of the client and never so late that it runs dry, and none is told to be late.
func TestFramesLeaveAtTheInterval(t *testing.T) {
	for _, test := range []struct {
		interval time.Duration
		want     string
	}{
		{FrameDuration, "[0:10 20:1 40:1 60:1 80:1 100:1 120:1]"},
		{2 * FrameDuration, "[0:10 40:2 80:2 120:2]"},
		{3 * FrameDuration, "[0:10 60:3 120:3]"},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := roomy
			cfg.PacingLead, cfg.PacingInterval = 10*FrameDuration, test.interval
			heard := &ear{}
			hub := NewHub(cfg, sixteenFrames{}, nil, nil, slog.New(slog.DiscardHandler), heard)
			defer hub.Close()
			if err := hub.Admit(); err != nil {
				t.Fatal(err)
			}
			defer hub.Leave()
			w := &timedWire{began: time.Now()}
			s := hub.Open(w, Opening{Params: Params{Pacing: Realtime}})
			defer s.Close()
			s.Receive([]byte(`{"type":"text","text":"sixteen"}`))
			time.Sleep(time.Second) // of synctest's clock: all are spoken
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := fmt.Sprint(w.left); got != test.want {
				t.Errorf("at %s frames left, by millisecond, %s, want %s", test.interval, got, test.want)
			}
			if heard.lateness >= clockGrain || heard.underruns > 0 {
				t.Errorf("at %s a frame was %s late, and the client ran dry %d times", test.interval, heard.lateness, heard.underruns)
			}
		})
	}
}

// sixteenFrames has so many to say.
type sixteenFrames struct{ fiveFrames }

func (sixteenFrames) Speaker(string, Params, string) Speaker { return sixteenFrames{} }

func (sixteenFrames) Speak(_ context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	for range 16 {
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// timedWire counts frames by when they left.
type timedWire struct {
	wire
	began time.Time
	left  []departure
}

type departure struct {
	millis int64 // rounded to a frame's, for the clock has a grain
	frames int
}

func (d departure) String() string { return fmt.Sprintf("%d:%d", d.millis, d.frames) }

func (w *timedWire) WriteFrame(p []byte) error {
	at := time.Since(w.began).Round(FrameDuration).Milliseconds()
	if last := len(w.left) - 1; last >= 0 && w.left[last].millis == at {
		w.left[last].frames++
	} else {
		w.left = append(w.left, departure{at, 1})
	}
	return w.wire.WriteFrame(p)
}
