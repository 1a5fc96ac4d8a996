package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/voxedge/voxedge/telemetry"
)

// breaking is a Conn that turns out to be lost at the first message of a type.
type breaking struct {
	wire
	at string
}

func (b *breaking) WriteText(p []byte) error {
	if bytes.Contains(p, []byte(`"type":"`+b.at+`"`)) {
		return errors.New("lost")
	}
	return b.wire.WriteText(p)
}

// failing is a voice that cannot say anything.
type failing struct{ fiveFrames }

func (failing) Speaker(string, Params, string) Speaker { return failing{} }

func (failing) Speak(context.Context, *Script, Place, *uint64, func(Frame) error) error {
	return errors.New("broken")
}

// A connection that is found lost while the end of an utterance is told must not
// take the end with it: who comes back hears of every one.
func TestAnEndThatCannotBeToldIsToldLater(t *testing.T) {
	tests := []struct {
		name   string
		voices Voices
		at     string // what cannot be told
		say    []string
		want   string
	}{
		{"a failure", failing{}, "error", []string{`{"type":"text","text":"a"}`}, "[session_start utterance_end]"},
		{"the end of a failed one", failing{}, "utterance_end", []string{`{"type":"text","text":"a"}`}, "[session_start utterance_end]"},
		{"STOP", fiveFrames{}, "utterance_end", []string{`{"type":"control","command":"PAUSE"}`, `{"type":"text","text":"a"}`,
			`{"type":"text","text":"b"}`, `{"type":"control","command":"STOP"}`}, "[session_start utterance_end utterance_end]"},
		{"timings", fiveFrames{}, "timings", []string{`{"type":"text","text":"a"}`}, "[session_start utterance_end]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := roomy
				cfg.PacingLead = 5 * FrameDuration // all that the voice says
				hub := NewHub(cfg, tt.voices, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
				defer hub.Close()
				first := hub.Open(&breaking{at: tt.at}, Opening{Params: Params{Pacing: Realtime}, Timings: tt.at == "timings"})
				for _, message := range tt.say {
					first.Receive([]byte(message))
				}
				synctest.Wait()
				first.Close()

				var heard uint64
				if tt.at == "timings" {
					heard = 5
				}
				r, problem := hub.Resume(t.Context(), first.id, first.token, "", heard)
				if problem != nil {
					t.Fatal(problem)
				}
				w := &wire{}
				second := hub.Open(w, Opening{Resumed: r})
				defer second.Close()
				synctest.Wait()
				second.mu.Lock()
				defer second.mu.Unlock()
				var told []string
				for _, write := range w.writes {
					told = append(told, write...)
				}
				if got := fmt.Sprint(told); got != tt.want {
					t.Errorf("who comes back is told %s, want %s", got, tt.want)
				}
			})
		})
	}
}
