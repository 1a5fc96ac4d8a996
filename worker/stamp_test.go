package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"
	"time"
)

func TestStampedFramesBearTheirTime(t *testing.T) {
	for _, options := range []map[string]string{nil, {"pace": "realtime"}} {
		voice, err := Stamp{}.Open("", options)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		began := time.Now()
		if err := voice.Speak(context.Background(), "äb", &out); err != nil {
			t.Fatal(err)
		}
		if out.Len() != 2*ToneFramesPerRune*frameBytes {
			t.Fatalf("%d bytes", out.Len())
		}
		last := began
		for i := 0; i < out.Len(); i += frameBytes {
			at := time.Unix(0, int64(binary.LittleEndian.Uint64(out.Bytes()[i:])))
			if at.Before(last.Truncate(0)) || at.After(time.Now()) {
				t.Errorf("frame %d was made at %s, after one of %s", i/frameBytes, at, last)
			}
			last = at
		}
		if options != nil && time.Since(began) < 6*frameMillis*time.Millisecond {
			t.Error("at the pace of speech it was faster than that")
		}
	}
	if _, err := (Stamp{}).Open("", map[string]string{"pace": "fast"}); err == nil {
		t.Error("any pace will do")
	}
}
