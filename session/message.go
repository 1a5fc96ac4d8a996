package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

// MaxTextRunes is the most characters one text message may carry.
const MaxTextRunes = 10_000

// The bounds of a ping's id and of one receipt.
const (
	maxPingID        = 256
	maxReceiptFrames = 1_000
)

// Command is a control command of the client.
type Command string

// The commands of the wire contract.
const (
	Pause  Command = "PAUSE"
	Resume Command = "RESUME"
	Stop   Command = "STOP"
)

// Text asks for text to be spoken.
type Text struct {
	Text        string
	Runes       int
	Final       bool   // ends its utterance
	Traceparent string // W3C context for the utterance that it begins, or empty
}

// Control asks for a pause, its end, or silence.
type Control struct{ Command Command }

// Ping asks for a pong with the same id.
type Ping struct{ ID json.RawMessage }

// Receipt is the client's end of the traces of some frames.
type Receipt struct{ Frames []HeardFrame }

// HeardFrame is when a frame arrived and was played by the client's clock.
type HeardFrame struct {
	Sequence         uint64
	Received, Played time.Time
}

// ParseMessage reads one text message of a client. It returns a Text, Control,
// Ping or Receipt, or an Error with code INVALID_MESSAGE. data is not kept.
func ParseMessage(data []byte) (any, *Error) {
	var m struct {
		Type    string          `json:"type"`
		Text    *string         `json:"text"`
		IsFinal *bool           `json:"is_final"`
		Command Command         `json:"command"`
		ID      json.RawMessage `json:"id"`
		Frames  [][3]float64    `json:"frames"`
		Trace   string          `json:"traceparent"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, Errorf(InvalidMessage, `Send one JSON object a message, such as {"type":"text","text":"Hello"}`,
			"the message is not what was expected: %s", unexpected(err))
	}
	switch m.Type {
	case "text":
		return parseText(m.Text, m.IsFinal == nil || *m.IsFinal, m.Trace)
	case "control":
		switch m.Command {
		case Pause, Resume, Stop:
			return Control{m.Command}, nil
		}
		return nil, Errorf(InvalidMessage, `Send "command" as PAUSE, RESUME or STOP`, "the control command %.40q is unknown", m.Command)
	case "ping":
		if len(m.ID) > maxPingID {
			return nil, Errorf(InvalidMessage, "Send a shorter id", "the ping's id is %d bytes long; %d are allowed", len(m.ID), maxPingID)
		}
		return Ping{m.ID}, nil
	case "receipt":
		return parseReceipt(m.Frames)
	case "":
		return nil, Errorf(InvalidMessage, `Give "type" as text, control, ping or receipt`, `the message has no "type"`)
	}
	return nil, Errorf(InvalidMessage, "Known types are text, control, ping and receipt", "the message type %.40q is unknown", m.Type)
}

// unexpected says what is wrong in the client's terms, not in those of Go's types.
func unexpected(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return err.Error()
	case wrong.Field == "":
		return "it is a JSON " + wrong.Value
	}
	return fmt.Sprintf("%q is a JSON %s", wrong.Field, wrong.Value)
}

// parseText lets an empty text pass only when it is final: whether it then
// ends an utterance or is a mistake, the session knows.
func parseText(text *string, final bool, traceparent string) (any, *Error) {
	if text == nil {
		return nil, Errorf(InvalidMessage, `Send the text as a string in "text"`, `the text message has no "text"`)
	}
	if *text == "" && !final {
		return nil, errEmptyText
	}
	n := utf8.RuneCountInString(*text)
	if n > MaxTextRunes {
		return nil, Errorf(InvalidMessage, `Send it in parts with "is_final":false on all but the last`,
			"the text has %d characters; %d are allowed in a message", n, MaxTextRunes)
	}
	return Text{*text, n, final, traceparent}, nil
}

// maxUnixMillis is the year 2286; JavaScript's clocks tell fractions too.
const maxUnixMillis = 1e13

func parseReceipt(frames [][3]float64) (any, *Error) {
	if len(frames) > maxReceiptFrames {
		return nil, Errorf(InvalidMessage, "Send the receipt in parts", "the receipt has %d frames; %d are allowed", len(frames), maxReceiptFrames)
	}
	receipt := Receipt{make([]HeardFrame, 0, len(frames))}
	for _, f := range frames {
		sequence, received, played := f[0], f[1], max(f[2], f[1]) // what was never played ends as it arrives
		if sequence != math.Trunc(sequence) || sequence < 1 || sequence > 1<<53 || received < 0 || played > maxUnixMillis {
			return nil, Errorf(InvalidMessage, "Send [sequence, received, played] a frame, the times in Unix milliseconds", "the receipt has a frame %v", f)
		}
		receipt.Frames = append(receipt.Frames, HeardFrame{uint64(sequence), unixMillis(received), unixMillis(played)})
	}
	return receipt, nil
}

func unixMillis(ms float64) time.Time { return time.Unix(0, int64(ms*float64(time.Millisecond))) }

var errEmptyText = Errorf(InvalidMessage, "Send 1 to 10,000 characters; an empty text may only end an utterance begun with \"is_final\":false",
	"the text is empty")
