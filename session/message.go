package session

import (
	"encoding/json"
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
	Text  string
	Runes int
	Final bool // ends its utterance
}

// Control asks for a pause, its end, or silence.
type Control struct{ Command Command }

// Ping asks for a pong with the same id.
type Ping struct{ ID json.RawMessage }

// Receipt is the client's end of the traces of some frames: sequence, Unix
// milliseconds of arrival, Unix milliseconds of playback.
type Receipt struct{ Frames [][3]int64 }

// ParseMessage reads one text message of a client. It returns a Text, Control,
// Ping or Receipt, or an Error with code INVALID_MESSAGE. data is not kept.
func ParseMessage(data []byte) (any, *Error) {
	var m struct {
		Type    string          `json:"type"`
		Text    *string         `json:"text"`
		IsFinal *bool           `json:"is_final"`
		Command Command         `json:"command"`
		ID      json.RawMessage `json:"id"`
		Frames  [][3]int64      `json:"frames"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, Errorf(InvalidMessage, `Send one JSON object a message, such as {"type":"text","text":"Hello"}`,
			"the message is not what was expected: %v", err)
	}
	switch m.Type {
	case "text":
		return parseText(m.Text, m.IsFinal == nil || *m.IsFinal)
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
		if len(m.Frames) > maxReceiptFrames {
			return nil, Errorf(InvalidMessage, "Send the receipt in parts", "the receipt has %d frames; %d are allowed", len(m.Frames), maxReceiptFrames)
		}
		return Receipt{m.Frames}, nil
	case "":
		return nil, Errorf(InvalidMessage, `Give "type" as text, control, ping or receipt`, `the message has no "type"`)
	}
	return nil, Errorf(InvalidMessage, "Known types are text, control, ping and receipt", "the message type %.40q is unknown", m.Type)
}

// parseText lets an empty text pass only when it is final: whether it then
// ends an utterance or is a mistake, the session knows.
func parseText(text *string, final bool) (any, *Error) {
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
	return Text{*text, n, final}, nil
}

var errEmptyText = Errorf(InvalidMessage, "Send 1 to 10,000 characters; an empty text may only end an utterance begun with \"is_final\":false",
	"the text is empty")
