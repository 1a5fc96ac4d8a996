package session

import (
	"context"
	"time"
)

// Conn is the client's end of a session: a WebSocket whose writes do not wait.
// Its methods are safe for concurrent use, but for WriteText, Cork, WriteFrame and
// Uncork, which the session calls one at a time.
type Conn interface {
	// WriteText hands over one message. What the socket does not take at once is
	// kept, and Blocked reports it; an error means that the connection is lost. p is
	// not kept.
	WriteText(p []byte) error
	// WriteFrame hands over one that has WebSocket's header already, between Cork and
	// Uncork: until then p must stay as it is.
	WriteFrame(p []byte) error
	// Cork has messages gathered until Uncork writes them, or a Sender does, or there
	// are many.
	Cork()
	Uncork() error
	// Blocked reports whether bytes of earlier messages still wait for the socket.
	Blocked() bool
	// Flush waits until no bytes wait. It fails with os.ErrDeadlineExceeded
	// once the client has taken nothing for the given time.
	Flush(patience time.Duration) error
	// Ping sends a WebSocket ping; the answer comes to Session.Ponged.
	Ping() error
	// Close hands over a close message and gives the client a moment to answer
	// it before the reader is let go.
	Close(code int, reason string)
	// Abort lets the reader go at once.
	Abort()
}

// Sender writes for many connections at once.
type Sender interface {
	// Send writes what each has gathered, with fewer system calls than there are
	// connections. What it cannot write, and what came of it, is for Uncork.
	Send(conns []Conn)
	Close()
}

// Speaker reaches the workers for one session.
type Speaker interface {
	// Speak has the script synthesized from a place on, and calls emit for each frame in
	// order. The first skip frames are left out instead, and skip counts down. It returns
	// when the last frame was taken or with an error, which is emit's, the context's, or
	// an *Error.
	Speak(ctx context.Context, script *Script, from Place, skip *uint64, emit func(Frame) error) error
	// Control tells the worker of a command, if it wants to know. It does not wait.
	Control(Command)
	// Worker names the worker and the model in use, or is empty.
	Worker() (name, model string)
	// Close ends the session at every worker it was opened at, and waits for it.
	Close()
}

// Voices opens a Speaker for a session. The name is the session's to workers;
// model, if any, is what the session was spoken with before it was resumed.
type Voices interface {
	Speaker(name string, p Params, model string) Speaker
}

// Allowance is what one client may still use up. Its methods are safe for
// concurrent use.
type Allowance interface {
	// Text takes characters off it, or says why they are too many now. It may ask
	// another machine, and answers within a fraction of a second.
	Text(ctx context.Context, characters int) *Error
	// Spoken takes off what was spoken, or says why no more may be. It does not wait.
	Spoken(audio time.Duration) *Error
}

// Params is what a client asks for when it connects.
type Params struct {
	Model    string            `json:"model,omitempty"`
	Language string            `json:"language,omitempty"`
	Pacing   Pacing            `json:"pacing"`
	Options  map[string]string `json:"options,omitempty"` // handed to the worker as they are
}
