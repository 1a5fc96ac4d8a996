package session

// WebSocket close codes of the wire contract.
const (
	CloseDone     = 1000
	CloseDraining = 1001
	CloseData     = 1003
	CloseAbnormal = 1006 // never sent: the connection was lost
	CloseUTF8     = 1007
	ClosePolicy   = 1008
	CloseTooLarge = 1009
	CloseInternal = 1011
	CloseTryLater = 1013
)

// Ending says how a session ends: the close code, the reason in session_end,
// whether it is final or may be resumed, and the error before it, if any.
type Ending struct {
	Close  int
	Reason string
	Final  bool
	Err    *Error
}

// The endings that a connection's reader finds.
var (
	ClientClosed = Ending{Close: CloseDone, Reason: "client_closed", Final: true}

	BinaryData = Ending{CloseData, "unsupported_data", false, Errorf(InvalidMessage,
		"Send JSON in text messages; only the edge sends binary ones", "the client sent a binary message")}

	InvalidUTF8 = Ending{CloseUTF8, "invalid_utf8", false, Errorf(InvalidMessage,
		"Encode text messages in UTF-8", "the client sent a text message that is not UTF-8")}
)

// TooLarge is the ending of a session whose client sent a message over the limit, in bytes.
func TooLarge(limit int) Ending {
	return Ending{CloseTooLarge, "message_too_large", false, Errorf(InvalidMessage,
		`Send the text in parts with "is_final":false`, "the client sent a message of more than %d bytes", limit)}
}

var errDraining = Errorf(Draining, "Connect again: another edge takes the session", "this edge is being replaced and takes nothing new")

var drained = Ending{CloseDraining, "draining", false, errDraining}
