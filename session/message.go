package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
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
	var m fields
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, notUnderstood(unexpected("it", err))
	}
	var kind string
	if problem := m.read("type", &kind); problem != nil {
		return nil, problem
	}
	switch kind {
	case "text":
		return m.text()
	case "control":
		return m.control()
	case "ping":
		if id := m["id"]; len(id) > maxPingID {
			return nil, Errorf(InvalidMessage, "Send a shorter id", "the ping's id is %d bytes long; %d are allowed", len(id), maxPingID)
		}
		return Ping{m["id"]}, nil
	case "receipt":
		return m.receipt()
	case "":
		return nil, Errorf(InvalidMessage, `Give "type" as text, control, ping or receipt`, `the message has no "type"`)
	}
	return nil, Errorf(InvalidMessage, "Known types are text, control, ping and receipt", "the message type %.40q is unknown", kind)
}

// fields is a message by its exact names: a struct would take "TEXT" for "text".
type fields map[string]json.RawMessage

// read takes the named field, if there is one.
func (m fields) read(name string, into any) *Error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return notUnderstood(unexpected(strconv.Quote(name), err))
	}
	return nil
}

func notUnderstood(what string) *Error {
	return Errorf(InvalidMessage, `Send one JSON object a message, such as {"type":"text","text":"Hello"}`,
		"the message is not what was expected: %s", what)
}

// unexpected says what is wrong in the client's terms, not in those of Go's types.
func unexpected(subject string, err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return err.Error()
	case wrong.Field != "":
		return fmt.Sprintf("in %s, %q is a JSON %s", subject, wrong.Field, wrong.Value)
	}
	return fmt.Sprintf("%s is a JSON %s", subject, wrong.Value)
}

func (m fields) control() (any, *Error) {
	var command Command
	if problem := m.read("command", &command); problem != nil {
		return nil, problem
	}
	switch command {
	case Pause, Resume, Stop:
		return Control{command}, nil
	}
	return nil, Errorf(InvalidMessage, `Send "command" as PAUSE, RESUME or STOP`, "the control command %.40q is unknown", command)
}

// text lets an empty text pass: whether it then ends an utterance, adds nothing
// to one or is a mistake, the session knows.
func (m fields) text() (any, *Error) {
	var text *string
	var traceparent string
	final := true
	if problem := firstProblem(m.read("text", &text), m.read("is_final", &final), m.read("traceparent", &traceparent)); problem != nil {
		return nil, problem
	}
	if text == nil {
		return nil, Errorf(InvalidMessage, `Send the text as a string in "text"`, `the text message has no "text"`)
	}
	n := utf8.RuneCountInString(*text)
	if n > MaxTextRunes {
		return nil, Errorf(InvalidMessage, `Send it in parts with "is_final":false on all but the last`,
			"the text has %d characters; %d are allowed in a message", n, MaxTextRunes)
	}
	return Text{*text, n, final, traceparent}, nil
}

func firstProblem(problems ...*Error) *Error {
	for _, p := range problems {
		if p != nil {
			return p
		}
	}
	return nil
}

const howReceipt = "Send [sequence, received, played] a frame, the times in Unix milliseconds of one clock, played 0 if it never was"

// maxUnixMillis is the year 2286; JavaScript's clocks tell fractions too.
const maxUnixMillis = 1e13

func (m fields) receipt() (any, *Error) {
	var frames [][]float64
	if problem := m.read("frames", &frames); problem != nil {
		problem.Resolution = howReceipt
		return nil, problem
	}
	if len(frames) == 0 {
		return nil, Errorf(InvalidMessage, howReceipt, "the receipt has no frames")
	}
	if len(frames) > maxReceiptFrames {
		return nil, Errorf(InvalidMessage, "Send the receipt in parts", "the receipt has %d frames; %d are allowed", len(frames), maxReceiptFrames)
	}
	receipt := Receipt{make([]HeardFrame, 0, len(frames))}
	for _, f := range frames {
		if len(f) != 3 {
			return nil, Errorf(InvalidMessage, howReceipt, "the receipt has a frame of %d numbers", len(f))
		}
		sequence, received, played := f[0], f[1], f[2]
		if played == 0 { // it never was
			played = received
		}
		if sequence != math.Trunc(sequence) || sequence < 1 || sequence > 1<<53 || received <= 0 || played < received || played > maxUnixMillis {
			return nil, Errorf(InvalidMessage, howReceipt, "the receipt has a frame %v", f)
		}
		receipt.Frames = append(receipt.Frames, HeardFrame{uint64(sequence), unixMillis(received), unixMillis(played)})
	}
	return receipt, nil
}

func unixMillis(ms float64) time.Time { return time.Unix(0, int64(ms*float64(time.Millisecond))) }

var errEmptyText = Errorf(InvalidMessage, "Send 1 to 10,000 characters; an empty text may only go to an utterance begun with \"is_final\":false",
	"the text is empty")
