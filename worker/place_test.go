package worker

import (
	"fmt"
	"testing"
)

// Where each sentence begins is named, however the text came, if the voice can begin there.
func TestSentencesNameTheirPlaces(t *testing.T) {
	const first, second, third = "Où? ", "Two sentences.  ", "Three."
	chunks := []string{"O", "ù? Two sent", "ences.  Thr", "ee."}
	for _, tt := range []struct {
		engine Engine
		want   map[int]int64 // by frame
	}{
		{Stamp{}, map[int]int64{3 * 4: 4, 3 * (4 + 16): 4 + 16}},
		{Tone{}, map[int]int64{}},
	} {
		l := startWorker(t, tt.engine, 0)
		l.open("a", nil)
		s := l.speech("a")
		for i, chunk := range chunks {
			s.send(chunk, i == len(chunks)-1)
		}
		s.halfClose()
		got := map[int]int64{}
		frames := s.rest()
		for i, f := range frames {
			if f.GetTextBefore() != 0 {
				got[i] = f.GetTextBefore()
			}
		}
		if want := 3*len([]rune(first+second+third)) + 1; len(frames) != want || fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%T: %d frames name %v, want %d and %v", tt.engine, len(frames), got, want, tt.want)
		}
	}
}
