package clients

import (
	"testing"
	"time"

	"github.com/voxedge/voxedge/session"
)

// cut hands the audio to the framer in pieces whose sizes the cuts give, over
// and over.
func cut(t *testing.T, out *framer, pcm, cuts []byte) {
	t.Helper()
	for i := 0; len(pcm) > 0; i++ {
		n := len(pcm)
		if len(cuts) > 0 {
			n = min(n, 1+37*int(cuts[i%len(cuts)]))
		}
		if err := out.write(&audioFrame{audio: pcm[:n]}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		pcm = pcm[n:]
	}
}

// However the same audio is cut, and wherever a first attempt at it ends, the
// same frames come out, each once, but for those to be skipped; and from whatever place
// in it, if one was named, the second goes on.
func FuzzFramer(f *testing.F) {
	f.Add(uint16(0), uint16(0), uint8(0), uint8(0), []byte{}, []byte{})
	f.Add(uint16(3*session.FrameBytes), uint16(session.FrameBytes), uint8(1), uint8(1), []byte{}, []byte{255})
	f.Add(uint16(3*session.FrameBytes+1), uint16(2*session.FrameBytes-1), uint8(9), uint8(0), []byte{0}, []byte{3, 51, 52})
	f.Add(uint16(65535), uint16(40000), uint8(2), uint8(11), []byte{135, 1}, []byte{200, 0, 7})
	pcm := tonePCM(1 << 16)
	text := script("one two")
	f.Fuzz(func(t *testing.T, size, died uint16, skip, place uint8, cuts, cutsAgain []byte) {
		audio := pcm[:size]
		heard := audio[:min(died, size)]
		before := min(int(place), len(heard)/session.FrameBytes) * session.FrameBytes
		var ear ear
		left := uint64(skip)
		out := newFramer(session.Place{}, &left, ear.emit)
		out.restart()
		cut(t, out, heard[:before], cuts)
		if before > 0 {
			if err := out.name(4, text); err != nil {
				t.Fatal(err)
			}
		}
		cut(t, out, heard[before:], cuts)
		if spoken := out.restart(); int(out.at) != before/session.FrameBytes || spoken != 4*min(1, before) { //nolint:gosec // a count
			t.Fatalf("it begins again at frame %d, behind %d characters, want byte %d", out.at, spoken, before)
		}
		cut(t, out, audio[before:], cutsAgain)
		if err := out.finish(); err != nil {
			t.Fatal(err)
		}
		frames := (int(size) + session.FrameBytes - 1) / session.FrameBytes
		skipped := min(int(skip), frames)
		if want := int(skip) - skipped; left != uint64(want) {
			t.Errorf("%d frames are left to be skipped, want %d", left, want)
		}
		checkPCM(t, ear.frames, audio[min(skipped*session.FrameBytes, int(size)):])
	})
}
