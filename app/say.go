package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/session"
)

// sayOptions is the command line of say.
type sayOptions struct {
	text     string // or "-" for standard input
	url      string
	output   string
	model    string
	language string
	pacing   string
	options  []string
	header   http.Header
	trace    bool
}

// say speaks text through a running edge, to a WAV file or the speakers.
func say(ctx context.Context, c command) error {
	o, err := c.sayOptions()
	if err != nil {
		return err
	}
	out, err := openOutput(o.output, c.stdout)
	if err != nil {
		return err
	}
	p := &progress{to: c.stderr, live: isTerminal(c.stderr)}
	if o.trace {
		p.times = &waterfall{heard: map[uint64]time.Time{}}
	}
	err = o.speak(ctx, c.stdin, out, p)
	if err == nil {
		_, err = out.Write(nil) // of no sound comes a file of no sound
	}
	p.end()
	if closeErr := out.Close(); err == nil && closeErr != nil {
		err = &fault{exitFailed, closeErr.Error(), "See that there is room on the disk and that the player works"}
	}
	if err == nil {
		p.summary(out.Name())
		if o.trace {
			p.times.show(c.stderr)
		}
	}
	return err
}

func (c command) sayOptions() (sayOptions, error) {
	var o sayOptions
	flags := c.flags(`say "text" | -`)
	flags.StringVar(&o.url, "url", c.localURL(), "the edge's WebSocket URL")
	flags.StringVarP(&o.output, "output", "o", "", "WAV file to write instead of playing; - for standard output")
	flags.StringVar(&o.model, "model", "", "model to speak with")
	flags.StringVar(&o.language, "language", "", "language of the text, such as en")
	flags.StringVar(&o.pacing, "pacing", "", "realtime or none (default: none to a file, realtime to the speakers)")
	flags.StringArrayVar(&o.options, "option", nil, "name=value for the worker, such as speed=140; may be repeated")
	headers := flags.StringArray("header", nil, headerUsage)
	flags.BoolVar(&o.trace, "trace", false, "show the trace's id and where the frames' time went")
	if err := flags.Parse(c.args); err != nil {
		return o, usageError(err)
	}
	if flags.NArg() != 1 {
		return o, &fault{exitUsage, fmt.Sprintf("say takes one text, but was given %d", flags.NArg()),
			`Put the text in quotes: voxedge say "Hello there"; or - to read standard input`}
	}
	o.text = flags.Arg(0)
	var err error
	if o.header, err = parseHeaders(*headers); err != nil {
		return o, err
	}
	if o.pacing == "" {
		if o.pacing = string(session.Realtime); o.output != "" {
			o.pacing = string(session.Unpaced)
		}
	}
	return o, nil
}

func (o *sayOptions) endpoint() (string, error) {
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "ws" && u.Scheme != "wss" || u.Host == "" {
		return "", &fault{exitUsage, fmt.Sprintf("%q is not a WebSocket URL", o.url), "Give one that begins with ws:// or wss://, such as ws://localhost:8080/v1/stream"}
	}
	q := u.Query()
	q.Set("pacing", o.pacing)
	if o.model != "" {
		q.Set("model", o.model)
	}
	if o.language != "" {
		q.Set("language", o.language)
	}
	if o.trace {
		q.Set("timings", "true")
	}
	for _, option := range o.options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			return "", &fault{exitUsage, fmt.Sprintf("the option %q has no value", option), "Write it as name=value"}
		}
		q.Set("option."+name, value)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// speak sends the text and takes its sound, until the edge says that all of it
// was spoken.
func (o *sayOptions) speak(ctx context.Context, stdin io.Reader, out io.Writer, p *progress) error {
	endpoint, err := o.endpoint()
	if err != nil {
		return err
	}
	dialing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ws, response, err := websocket.Dial(dialing, endpoint, &websocket.DialOptions{HTTPHeader: o.header, Subprotocols: []string{session.BinaryProtocol}}) //nolint:bodyclose // Dial has read and closed it
	if err != nil {
		return dialFault(endpoint, response, err)
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(1 << 20)

	sent := make(chan error, 1)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		err := o.send(reading, ws, stdin, p)
		if err != nil {
			stop() // nothing will come
		}
		sent <- err
	}()
	err = o.receive(reading, ws, out, p)
	stop()
	if o.text == "-" { // the sender may wait for standard input, which nothing interrupts
		select {
		case sendErr := <-sent:
			err = firstError(sendErr, err)
		default:
		}
	} else if sendErr := <-sent; sendErr != nil && !errors.Is(sendErr, context.Canceled) {
		err = firstError(err, sendErr)
	}
	if ctx.Err() != nil {
		return &fault{exitFailed, "interrupted", "Say it again"}
	}
	if err == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "") // all was heard; the edge may have closed first
	}
	return err
}

// dialFault says why there is no connection, in the edge's words where it gave any.
func dialFault(endpoint string, response *http.Response, err error) error {
	host := endpoint
	if u, parseErr := url.Parse(endpoint); parseErr == nil {
		host = u.Scheme + "://" + u.Host
	}
	if tlsErr, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &fault{exitFailed, fmt.Sprintf("%s does not speak TLS (%s)", host, tlsErr.Msg), "Use ws:// in the URL, or the port that speaks TLS"}
	}
	if certErr, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &fault{exitFailed, fmt.Sprintf("the certificate of %s is not to be trusted (%v)", host, certErr.Err),
			"Run voxedge doctor on the URL; SSL_CERT_FILE may name a certificate of your own"}
	}
	if response == nil {
		return &fault{exitFailed, fmt.Sprintf("there is no edge at %s (%v)", host, rootCause(err)),
			"Start one with 'voxedge dev', or give its URL with --url"}
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	var refusal struct{ Code, Message string }
	if json.Unmarshal(body, &refusal) == nil && refusal.Code != "" {
		return &fault{exitFailed, fmt.Sprintf("%s refused: %s: %s", host, refusal.Code, strings.TrimSuffix(refusal.Message, ".")), "Then try again"}
	}
	return &fault{exitFailed, fmt.Sprintf("%s answered %s: %s", host, response.Status, strings.TrimSpace(string(body))),
		"Give the URL of a voxedge WebSocket with --url, such as ws://localhost:8080/v1/stream"}
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

type textMessage struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	IsFinal bool   `json:"is_final"`
}

// send sends the text, or standard input as partial text while it comes in.
func (o *sayOptions) send(ctx context.Context, ws *websocket.Conn, stdin io.Reader, p *progress) error {
	write := func(text string, final bool) error {
		data, err := json.Marshal(textMessage{"text", text, final})
		if err != nil {
			return err
		}
		p.asked()
		return ws.Write(ctx, websocket.MessageText, data)
	}
	if o.text != "-" {
		return inParts(o.text, write)
	}
	in := bufio.NewReader(stdin)
	buf := make([]byte, 4096)
	var held []byte // of a character that is not whole
	for {
		n, err := in.Read(buf)
		held = append(held, buf[:n]...)
		whole := wholeRunes(held)
		if whole > 0 {
			if err := write(string(held[:whole]), false); err != nil {
				return err
			}
			held = append(held[:0], held[whole:]...)
		}
		if errors.Is(err, io.EOF) {
			return write(string(held), true)
		}
		if err != nil {
			return err
		}
	}
}

// inParts sends a text of any length in messages that are short enough.
func inParts(text string, write func(string, bool) error) error {
	text = strings.ToValidUTF8(text, "\uFFFD") // what JSON would make of it, so that parts are cut between characters
	for utf8.RuneCountInString(text) > session.MaxTextRunes {
		part := string([]rune(text)[:session.MaxTextRunes])
		text = text[len(part):]
		if err := write(part, false); err != nil {
			return err
		}
	}
	return write(text, true)
}

// wholeRunes returns how many bytes of p are whole characters.
func wholeRunes(p []byte) int {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if utf8.FullRune(p[i:]) {
				return len(p)
			}
			return i
		}
	}
	return len(p)
}

// receive writes the sound to out until the utterance is over.
func (o *sayOptions) receive(ctx context.Context, ws *websocket.Conn, out io.Writer, p *progress) error {
	var failure *fault
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			return firstError(faultOrNil(failure), &fault{exitFailed, fmt.Sprintf("the connection was lost: %v", rootCause(err)),
				"Try again; 'voxedge doctor' finds out why"})
		}
		if kind == websocket.MessageBinary {
			if len(data) < 16 {
				return &fault{exitFailed, "the edge sent a frame that is too short", "Update voxedge on both sides"}
			}
			p.frame(binary.LittleEndian.Uint64(data[8:]))
			if p.times != nil {
				p.times.frame(p.lastSeq, time.Now(), o.output == "")
				if err := p.times.tell(ctx, ws, false); err != nil {
					continue // reading says why
				}
			}
			if _, err := out.Write(data[16:]); err != nil {
				return &fault{exitFailed, fmt.Sprintf("the sound cannot be written: %v", err), "See that the player or the disk works"}
			}
			continue
		}
		var m struct {
			Type, Code, Message, Reason string
			SessionID                   string `json:"session_id"`
			Traceparent                 string
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		switch m.Type {
		case "session_start":
			p.session = m.SessionID
			if p.times != nil {
				p.times.traceparent = m.Traceparent
				_ = p.times.ping(ctx, ws) // reading says why it could not
			}
		case "pong":
			p.times.roundTrip = time.Since(p.times.pinged)
		case "timings":
			var t timings
			if err := json.Unmarshal(data, &t); err != nil {
				return err
			}
			p.times.take(t)
		case "error":
			failure = &fault{exitFailed, fmt.Sprintf("the edge says %s: %s", m.Code, strings.TrimSuffix(m.Message, ".")), "Then say it again"}
		case "utterance_end":
			if m.Reason != string(session.Completed) {
				return firstError(faultOrNil(failure), &fault{exitFailed, "the utterance ended as " + m.Reason, "Say it again"})
			}
			if p.times != nil {
				return p.times.tell(ctx, ws, true)
			}
			return nil
		case "session_end":
			return firstError(faultOrNil(failure), &fault{exitFailed, "the edge ended the session: " + m.Reason, "Say it again"})
		}
		if failure != nil && m.Type == "error" && !endsAnUtterance(m.Code) {
			return failure
		}
	}
}

// endsAnUtterance reports whether an utterance_end follows the error: a text that
// is refused never becomes an utterance.
func endsAnUtterance(code string) bool {
	return code == string(session.WorkerUnavailable) || code == string(session.SynthesisFailed) || code == string(session.InternalError)
}

func faultOrNil(f *fault) error {
	if f == nil {
		return nil
	}
	return f
}

// progress tells on standard error how the speaking goes.
type progress struct {
	to      io.Writer
	live    bool // rewrite one line
	session string
	began   atomic.Int64 // Unix nanoseconds of the first text
	first   time.Duration
	frames  uint64
	lastSeq uint64
	gaps    uint64
	shown   time.Time
	times   *waterfall // nil unless it is asked for
}

func (p *progress) asked() { p.began.CompareAndSwap(0, time.Now().UnixNano()) }

func (p *progress) frame(sequence uint64) {
	now := time.Now()
	if p.frames == 0 {
		p.first = now.Sub(time.Unix(0, p.began.Load()))
	}
	if sequence != p.lastSeq+1 {
		p.gaps++
	}
	p.lastSeq = sequence
	p.frames++
	if p.live && now.Sub(p.shown) > 100*time.Millisecond {
		p.shown = now
		_, _ = fmt.Fprintf(p.to, "\r%s", p.line())
	}
}

func (p *progress) line() string {
	return fmt.Sprintf("first audio after %d ms, %d frames (%.2f s), %d gaps",
		p.first.Milliseconds(), p.frames, (time.Duration(p.frames) * session.FrameDuration).Seconds(), p.gaps)
}

func (p *progress) end() {
	if p.live && p.frames > 0 {
		_, _ = fmt.Fprint(p.to, "\r\x1b[K")
	}
}

func (p *progress) summary(output string) {
	_, _ = fmt.Fprintf(p.to, "%s, session %s, to %s\n", p.line(), p.session, output)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
