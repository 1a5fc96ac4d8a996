package session

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/segmentio/asm/base64" // by vector instructions, where the machine has them
)

// BinaryProtocol is the WebSocket subprotocol in which audio travels as binary
// messages: a 16-byte header and the samples.
const BinaryProtocol = "voxedge.binary.v1"

const binaryVersion = 1

// A frame travels as one WebSocket message, encoded when it is queued, while its
// samples are in the cache, and numbered when it is written: only then is it
// known which frame it is. It is encoded with WebSocket's own header (RFC 6455,
// 5.2: from a server, final, with a length of two bytes) and goes to the socket
// as it lies.
const (
	webSocketHeader = 4
	textMessage     = 0x81
	binaryMessage   = 0x82
	length16        = 126

	binaryHeader     = 16
	binarySequenceAt = webSocketHeader + 8

	audioBegin = `{"type":"audio","pcm":"`
	audioEnd   = `","sample_rate":48000,"frame_ms":20,"sequence":`
	maxDigits  = 20
)

// maxAudioMessage is the most bytes a numbered frame takes.
const maxAudioMessage = webSocketHeader + len(audioBegin) + FrameBytes/3*4 + len(audioEnd) + maxDigits + len("}")

// encodeAudio appends the frame as a message of the JSON protocol or the binary
// subprotocol, without its number.
func encodeAudio(dst, pcm []byte, inBinary bool) []byte {
	if inBinary {
		dst = append(dst, binaryMessage, length16, 0, 0, binaryVersion, 0)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(FrameMillis))
		dst = binary.LittleEndian.AppendUint32(dst, SampleRate)
		dst = binary.LittleEndian.AppendUint64(dst, 0) // its number
		return append(dst, pcm...)
	}
	dst = append(dst, textMessage, length16, 0, 0)
	dst = append(dst, audioBegin...)
	at, end := len(dst), len(dst)+base64.StdEncoding.EncodedLen(len(pcm))
	dst = slices.Grow(dst, end-at)[:end]
	base64.StdEncoding.Encode(dst[at:], pcm)
	return append(dst, audioEnd...)
}

// numberAudio makes an encoded frame ready to be sent. The message has room for it.
func numberAudio(message []byte, sequence uint64, inBinary bool) []byte {
	if inBinary {
		binary.LittleEndian.PutUint64(message[binarySequenceAt:], sequence)
	} else {
		message = append(strconv.AppendUint(message, sequence, 10), '}')
	}
	binary.BigEndian.PutUint16(message[2:], uint16(len(message)-webSocketHeader)) //nolint:gosec // below maxAudioMessage
	return message
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
