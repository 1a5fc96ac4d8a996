package session

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
)

// BinaryProtocol is the WebSocket subprotocol in which audio travels as binary
// messages: a 16-byte header and the samples.
const BinaryProtocol = "voxedge.binary.v1"

// MaxAudioMessage is the most bytes an encoded frame can take, for sizing
// write buffers.
const MaxAudioMessage = FrameBytes/3*4 + 128

const binaryVersion = 1

// appendAudio appends the frame as a message of the JSON protocol.
func appendAudio(dst, pcm []byte, sequence uint64) []byte {
	dst = append(dst, `{"type":"audio","pcm":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, pcm)
	dst = append(dst, `","sample_rate":48000,"frame_ms":20,"sequence":`...)
	dst = strconv.AppendUint(dst, sequence, 10)
	return append(dst, '}')
}

// appendBinaryAudio appends the frame as a message of the binary subprotocol.
func appendBinaryAudio(dst, pcm []byte, sequence uint64) []byte {
	dst = append(dst, binaryVersion, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(FrameMillis))
	dst = binary.LittleEndian.AppendUint32(dst, SampleRate)
	dst = binary.LittleEndian.AppendUint64(dst, sequence)
	return append(dst, pcm...)
}

type startMessage struct {
	Type        string `json:"type"`
	SessionID   string `json:"session_id"`
	ResumeToken string `json:"resume_token"`
	SampleRate  int    `json:"sample_rate"`
	FrameMillis int    `json:"frame_ms"`
	Encoding    string `json:"encoding"`
	Protocol    string `json:"protocol"`
	Pacing      Pacing `json:"pacing"`
	Traceparent string `json:"traceparent,omitempty"` // W3C context of the session's opening

	*resumedMessage
}

// resumedMessage tells a client that resumes what the edge knows: text that it
// sent just before its connection or its edge was lost may be missing.
type resumedMessage struct {
	Resumed    bool             `json:"resumed"`
	After      uint64           `json:"after"`
	Paused     bool             `json:"paused"`
	Accepted   uint64           `json:"utterances_accepted"`
	Utterances []utteranceState `json:"utterances"` // not over
}

type utteranceState struct {
	Utterance  uint64 `json:"utterance"`
	Characters int    `json:"characters"`
	IsFinal    bool   `json:"is_final"`
}

type utteranceEndMessage struct {
	Type         string `json:"type"`
	Utterance    uint64 `json:"utterance"`
	LastSequence uint64 `json:"last_sequence"`
	Reason       string `json:"reason"`
	TraceID      string `json:"trace_id,omitempty"`
}

// timingsMessage says where the time of some frames went.
type timingsMessage struct {
	Type      string     `json:"type"`
	Utterance uint64     `json:"utterance"`
	TraceID   string     `json:"trace_id"`
	Accepted  int64      `json:"accepted_unix_us"`
	Frames    [][6]int64 `json:"frames"` // sequence, emitted, received, queued, written, queue depth
}

type pongMessage struct {
	Type       string          `json:"type"`
	ID         json.RawMessage `json:"id,omitempty"`
	ServerTime int64           `json:"server_time_unix_ms"`
}

type errorMessage struct {
	Type    string `json:"type"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

type endMessage struct {
	Type      string `json:"type"`
	SessionID string `json:"session_id"`
	Reason    string `json:"reason"`
}

// EncodeError returns the error as the client reads it; for those who are
// refused before they have a session.
func EncodeError(e *Error) []byte {
	return encode(errorMessage{"error", e.Code, e.Message()})
}

// encode returns the JSON of one of the messages above, none of which can fail.
func encode(message any) []byte {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	return data
}
