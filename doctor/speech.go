package doctor

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/session"
)

// word is what the doctor has spoken.
const word = "Ready."

// behind is how late a frame may be heard before it counts as a gap: less than
// that any client buffers.
const behind = 300 * time.Millisecond

// checkSpeech has a word spoken and listens to it as a client does.
func (e *examination) checkSpeech(ctx context.Context) Step {
	ctx, cancel := context.WithTimeout(ctx, speechTimeout)
	defer cancel()
	began := time.Now()
	text, _ := json.Marshal(map[string]string{"type": "text", "text": word})
	if err := e.ws.Write(ctx, websocket.MessageText, text); err != nil {
		return e.failed("speech", ConnectionReset, nil, "sending the text: %v", err)
	}
	var heard sound
	for {
		kind, data, err := e.ws.Read(ctx)
		if err != nil {
			if heard.frames == 0 {
				return e.failed("speech", NoAudio, nil, "nothing was heard for %s (%v)", speechTimeout, err)
			}
			return e.failed("speech", SlowSpeech, nil, "after %d frames nothing came (%v)", heard.frames, err)
		}
		if kind == websocket.MessageBinary {
			if len(data) < 16 {
				return e.failed("speech", NoSessionStart, nil, "a frame of %d bytes came", len(data))
			}
			heard.frame(binary.LittleEndian.Uint64(data[8:]), time.Since(began))
			continue
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			return e.failed("speech", NoSessionStart, nil, "%s came", excerpt(data))
		}
		switch m.Type {
		case "audio": // an edge, or a proxy, that knows no subprotocol
			return e.failed("speech", NoSessionStart, nil, "the subprotocol %s was asked for, and is not spoken", session.BinaryProtocol)
		case "error": // a text that is refused has no utterance_end
			return e.refusedWith("speech", m.Code, m.Code+": "+m.Message)
		case "session_end":
			return e.refusedWith("speech", m.Reason, fmt.Sprintf("the session was ended: %s", m.Reason))
		case "utterance_end":
			_ = e.ws.Close(websocket.StatusNormalClosure, "")
			return e.judge(&heard, m)
		}
	}
}

// sound is what was heard.
type sound struct {
	frames  int
	last    uint64
	missing int
	first   time.Duration // from the text to the first frame
	worst   time.Duration // that a frame came after it should have been heard
}

func (s *sound) frame(sequence uint64, at time.Duration) {
	if s.frames == 0 {
		s.first = at
	}
	if sequence != s.last+1 {
		s.missing++
	}
	s.worst = max(s.worst, at-s.first-time.Duration(s.frames)*session.FrameDuration)
	s.frames, s.last = s.frames+1, sequence
}

func (e *examination) judge(heard *sound, end message) Step {
	e.heard = heard.first
	switch {
	case end.Reason != string(session.Completed):
		return e.failed("speech", SynthesisFailed, nil, "the utterance ended as %s", end.Reason)
	case heard.frames == 0:
		return e.failed("speech", NoAudio, nil, "the utterance ended without a frame")
	case heard.missing > 0 || heard.last != end.LastSequence:
		return e.failed("speech", FramesMissing, nil, "%d frames came, the last is %d of %d, with %d gaps", heard.frames, heard.last, end.LastSequence, heard.missing)
	case heard.worst > behind:
		return e.failed("speech", SlowSpeech, nil, "a frame came %s after it should have been heard", millis(heard.worst))
	}
	return ok("speech", "first audio after %s, %d frames without a gap, the latest %s behind", millis(heard.first), heard.frames, millis(max(heard.worst, 0)))
}
