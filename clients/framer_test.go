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
// same frames come out, each once, but for those to be skipped.
func FuzzFramer(f *testing.F) {
	f.Add(uint16(0), uint16(0), uint8(0), []byte{}, []byte{})
	f.Add(uint16(3*session.FrameBytes), uint16(session.FrameBytes), uint8(1), []byte{}, []byte{255})
	f.Add(uint16(3*session.FrameBytes+1), uint16(2*session.FrameBytes-1), uint8(9), []byte{0}, []byte{3, 51, 52})
	f.Add(uint16(65535), uint16(40000), uint8(2), []byte{135, 1}, []byte{200, 0, 7})
	pcm := tonePCM(1 << 16)
	f.Fuzz(func(t *testing.T, size, died uint16, skip uint8, cuts, cutsAgain []byte) {
		audio := pcm[:size]
		var ear ear
		left := uint64(skip)
		out := &framer{skip: &left, emit: ear.emit}
		out.restart()
		cut(t, out, audio[:min(died, size)], cuts)
		out.restart()
		cut(t, out, audio, cutsAgain)
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
