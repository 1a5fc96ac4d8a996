package session

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// voice says frames, each so long after the one before.
type voice struct {
	fiveFrames
	pauses []time.Duration
}

func (v voice) Speaker(string, Params, string) Speaker { return v }

func (v voice) Speak(ctx context.Context, _ *Script, _ *uint64, emit func(Frame) error) error {
	for _, pause := range v.pauses {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: time.Now()}); err != nil {
			return err
		}
	}
	return nil
}

// often returns n pauses of d.
func often(n int, d time.Duration) []time.Duration {
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = d
	}
	return pauses
}

// An utterance whose frames come too slowly for half a second leaves in longer
// pieces, until its client has its lead once more. A single silence, however long, is
// no reason.
func TestUtteranceFarBehindLeavesInPieces(t *testing.T) {
	for _, test := range []struct {
		name   string
		pauses [][]time.Duration
		want   string
	}{
		{"slow for less than half a second",
			[][]time.Duration{often(25, 45*time.Millisecond)},
			strings.Repeat("1 ", 25)},
		{"slow for longer",
			[][]time.Duration{often(26+16, 45*time.Millisecond)},
			strings.Repeat("1 ", 26) + "5 5 5 1 "},
		{"slow, fast, and slow once more",
			[][]time.Duration{often(26+3, 45*time.Millisecond), often(30, 7*time.Millisecond), {time.Second}, often(3, 45*time.Millisecond)},
			strings.Repeat("1 ", 26) + "10 " + strings.Repeat("1 ", 23+4)},
		{"silent once",
			[][]time.Duration{often(20, 45*time.Millisecond), {5 * time.Second}, often(3, 45*time.Millisecond)},
			strings.Repeat("1 ", 24)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := roomy
				cfg.PacingLead = 10 * FrameDuration
				var v voice
				for _, pauses := range test.pauses {
					v.pauses = append(v.pauses, pauses...)
				}
				hub := NewHub(cfg, v, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
				defer hub.Close()
				if err := hub.Admit(); err != nil {
					t.Fatal(err)
				}
				defer hub.Leave()
				w := &wire{}
				s := hub.Open(w, Opening{Params: Params{Pacing: Realtime}})
				defer s.Close()
				s.mu.Lock()
				w.writes = nil
				s.mu.Unlock()
				s.Receive([]byte(`{"type":"text","text":"speak"}`))
				time.Sleep(time.Minute) // of synctest's clock: all is spoken
				synctest.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				var got strings.Builder
				for _, frames := range w.writes[:len(w.writes)-1] { // but for the utterance's end
					fmt.Fprintf(&got, "%d ", len(frames))
				}
				if got.String() != test.want {
					t.Errorf("it left in pieces of %s, want %s", got.String(), test.want)
				}
			})
		})
	}
}
