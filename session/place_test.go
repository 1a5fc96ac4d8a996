package session

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
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

// shelf is a journal that keeps records as Redis does.
type shelf struct {
	smallJournal
	mu      sync.Mutex
	records map[string][]byte
}

func (j *shelf) Save(_ context.Context, records []Record) ([]Taken, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range records {
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		j.records[r.ID] = data
	}
	return nil, nil
}

func (j *shelf) Load(_ context.Context, id string) (r Record, err error) {
	return r, json.Unmarshal(j.record(id), &r)
}

func (j *shelf) record(id string) []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.records[id]
}

func (j *shelf) Take(_ context.Context, r *Record) error {
	r.Epoch++
	return nil
}

// A session that is resumed in the middle of a long utterance has a worker speak on from
// the sentence that its client is in, and not from the utterance's start: wherever the
// utterance stands among others, however often the client comes back, and at another edge
// that knows only what the journal has.
func TestResumedWithinASentence(t *testing.T) {
	const text = "a. b. c. d. e. f. "
	all := strings.Fields("x1 x2 x3 x4 a5 a6 a7 a8 b9 b10 b11 b12 c13 c14 c15 c16 d17 d18 d19 d20 e21 e22 e23 e24 f25 f26 f27 f28 y29 y30 y31 y32")
	tests := []struct {
		after  []uint64 // the last frame of one connection after another
		resume []string // the text that each of them was resumed with
	}{
		{[]uint64{0}, []string{"x. "}},
		{[]uint64{3}, []string{"x. "}},
		{[]uint64{7}, []string{text}},
		{[]uint64{8}, []string{"b. c. d. e. f. "}},
		{[]uint64{14}, []string{"c. d. e. f. "}},
		{[]uint64{14, 15, 16}, []string{"c. d. e. f. ", "c. d. e. f. ", "d. e. f. "}},
		{[]uint64{10, 18}, []string{"b. c. d. e. f. ", "d. e. f. "}},
		{[]uint64{5, 21}, []string{text, "e. f. "}},
		{[]uint64{27, 28, 29}, []string{"f. ", "y. ", "y. "}}, // of one that is over, but not heard
	}
	for _, tt := range tests {
		for _, elsewhere := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.after, elsewhere), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var given []string
					journal := &shelf{records: map[string][]byte{}}
					edge := func() *Hub {
						return NewHub(roomy, sentenceVoice{given: &given}, journal, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
					}
					hub := edge()
					defer func() { hub.Close() }()
					conn := &hearing{}
					s := hub.Open(conn, Opening{Params: Params{Pacing: Realtime}, Binary: true})
					for _, piece := range []string{"x. ", "a", ". b. c", ". d. e. f. ", "y. "} {
						s.Receive([]byte(`{"type":"text","text":"` + piece + `","is_final":` + fmt.Sprint(piece[len(piece)-1] == ' ') + `}`))
					}
					var from uint64
					for i, after := range tt.after {
						time.Sleep(time.Duration(after-from+2) * FrameDuration) // of synctest's clock: some more are written than the client has
						synctest.Wait()
						record := journal.record(s.id) // before it is told of the end
						s.Close()
						checkHeard(t, conn.heard[:after-from], all[from:after])
						if elsewhere {
							hub.Close()
							hub, journal.records[s.id] = edge(), record
						}
						r, problem := hub.Resume(t.Context(), s.id, s.token, "", after)
						if problem != nil {
							t.Fatal(problem)
						}
						conn, from, given = &hearing{}, after, nil
						s = hub.Open(conn, Opening{Resumed: r, Binary: true})
						synctest.Wait()
						if !elsewhere && given[0] != tt.resume[i] || !strings.HasSuffix(given[0], tt.resume[i]) {
							t.Errorf("resumed after %d, a worker was given %q, want %q", after, given[0], tt.resume[i])
						}
					}
					time.Sleep(time.Second)
					s.Close()
					checkHeard(t, conn.heard, all[from:])
				})
			})
		}
	}
}

func checkHeard(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the client hears %v, want %v", got, want)
	}
}

// However many an utterance has, a session's memory is bounded.
func TestTheNewestPlacesAreKept(t *testing.T) {
	var u utterance
	for i := range uint64(1000) {
		if !u.pass(Place{Frames: i + 1, Runes: 1}) || u.pass(Place{Frames: i + 1, Runes: 1}) {
			t.Fatal("a place is not new once")
		}
	}
	n := len(u.places)
	if n != keepPlaces || cap(u.places) > 2*keepPlaces || u.places[n-1].Frames != 1000 || u.places[0].Frames != 1001-keepPlaces {
		t.Errorf("%d places of %d are kept: %v", n, cap(u.places), u.places)
	}
}

// A worker that names places wrongly is found out later than its frames are queued.
func TestPlacesThatTurnOutWrongAreForgotten(t *testing.T) {
	var u utterance
	good := Place{Frames: 10, Runes: 5}
	for _, p := range []Place{{}, good, {Frames: 20, Runes: 40}, {Frames: 30, Runes: 60}} {
		u.pass(p)
	}
	if u.pass(good) || !reflect.DeepEqual(u.places, []Place{good}) {
		t.Errorf("kept are %v", u.places)
	}
	if u.pass(Place{}) || len(u.places) != 0 {
		t.Errorf("kept are %v", u.places)
	}
}
