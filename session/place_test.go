package session

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// sentenceVoice has four frames to say to each sentence of three characters, names where
// each begins, and notes the texts that it has to speak. A frame's first sample is the
// sentence's letter.
type sentenceVoice struct {
	fiveFrames
	given *[]string
}

func (v sentenceVoice) Speaker(string, Params, string) Speaker { return v }

func (v sentenceVoice) Speak(ctx context.Context, script *Script, from Place, skip *uint64, emit func(Frame) error) error {
	var text string
	for i, last := 0, false; !last; i++ {
		var chunk string
		var err error
		if chunk, last, err = script.Chunk(ctx, i); err != nil {
			return err
		}
		text += chunk
	}
	*v.given = append(*v.given, text[from.Runes:])
	for i := int(from.Frames); i < 4*len(text)/3; i++ { //nolint:gosec // a count
		if *skip > 0 {
			*skip--
			continue
		}
		pcm := make([]byte, FrameBytes)
		pcm[0] = text[i/4*3]
		if err := emit(Frame{PCM: pcm, Place: Place{Frames: uint64(i / 4 * 4), Runes: i / 4 * 3}}); err != nil { //nolint:gosec // a count
			return err
		}
	}
	return nil
}

// hearing is a Conn that notes the frames' sentences and sequences.
type hearing struct {
	wire
	heard []string
}

func (h *hearing) WriteFrame(p []byte) error {
	pcm := len(p) - FrameBytes
	h.heard = append(h.heard, fmt.Sprintf("%c%d", p[pcm], binary.LittleEndian.Uint64(p[pcm-8:])))
	return nil
}

// A session that is resumed in the middle of a long utterance has a worker speak on from
// the sentence that its client is in, and not from the utterance's start.
func TestResumedWithinASentence(t *testing.T) {
	const text = "a. b. c. d. e. f. "
	all := strings.Fields("a1 a2 a3 a4 b5 b6 b7 b8 c9 c10 c11 c12 d13 d14 d15 d16 e17 e18 e19 e20 f21 f22 f23 f24")
	tests := []struct {
		after []uint64 // the last frame of one connection after another
		given []string
	}{
		{[]uint64{0}, []string{text, text}},
		{[]uint64{3}, []string{text, text}},
		{[]uint64{4}, []string{text, "b. c. d. e. f. "}},
		{[]uint64{10}, []string{text, "c. d. e. f. "}},
		{[]uint64{10, 11, 12}, []string{text, "c. d. e. f. ", "c. d. e. f. ", "d. e. f. "}},
		{[]uint64{6, 14}, []string{text, "b. c. d. e. f. ", "d. e. f. "}},
		{[]uint64{1, 17}, []string{text, text, "e. f. "}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var given []string
				hub := NewHub(roomy, sentenceVoice{given: &given}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
				defer hub.Close()
				conn := &hearing{}
				s := hub.Open(conn, Opening{Params: Params{Pacing: Realtime}, Binary: true})
				for _, piece := range []string{"a", ". b. c", ". d. e. f. "} {
					s.Receive([]byte(`{"type":"text","text":"` + piece + `","is_final":` + fmt.Sprint(piece[len(piece)-1] == ' ') + `}`))
				}
				var from uint64
				for _, after := range tt.after {
					time.Sleep(time.Duration(after-from+2) * FrameDuration) // of synctest's clock: some more are written than the client has
					s.Close()
					checkHeard(t, conn.heard[:after-from], all[from:after])
					r, problem := hub.Resume(t.Context(), s.id, s.token, "", after)
					if problem != nil {
						t.Fatal(problem)
					}
					conn, from = &hearing{}, after
					s = hub.Open(conn, Opening{Resumed: r, Binary: true})
				}
				time.Sleep(time.Second)
				s.Close()
				checkHeard(t, conn.heard, all[from:])
				if !reflect.DeepEqual(given, tt.given) {
					t.Errorf("the worker was given %q, want %q", given, tt.given)
				}
			})
		})
	}
}

func checkHeard(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the client hears %v, want %v", got, want)
	}
}

// Who comes back lacks seconds, so the latest places are enough, and a session's memory
// is bounded.
func TestTheLatestPlacesAreKept(t *testing.T) {
	var u utterance
	for i := range uint64(100) {
		u.pass(Place{}) // before the first
		u.pass(Place{Frames: i + 1, Runes: 1})
		u.pass(Place{Frames: i + 1, Runes: 1})
	}
	if len(u.places) != keepPlaces || u.places[0].Frames != 100-keepPlaces+1 || u.places[keepPlaces-1].Frames != 100 || cap(u.places) > 2*keepPlaces {
		t.Errorf("%d places of %d are kept: %v", len(u.places), cap(u.places), u.places)
	}
}
