package handlers_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/voxedge/voxedge/handlers"
	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/telemetry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Fiber's and fasthttp's own, which they start once a process or leave for a while.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).workerFunc"),
	)
}

// frame is what the test's speaker says at place i: no two are alike.
func frame(i int) []byte {
	pcm := make([]byte, session.FrameBytes)
	for n := 0; n < len(pcm); n += 4 {
		binary.LittleEndian.PutUint32(pcm[n:], uint32(i*1000+n))
	}
	return pcm
}

// speakFunc speaks one utterance.
type speakFunc func(ctx context.Context, script *session.Script, emit func(session.Frame) error) error

// voices speaks with a function and takes note of controls.
type voices struct {
	speak    speakFunc
	mu       sync.Mutex
	controls []session.Command
	closed   int
}

func (v *voices) Speaker(string, session.Params, string) session.Speaker { return &speaker{v} }

type speaker struct{ voices *voices }

func (s *speaker) Speak(ctx context.Context, script *session.Script, _ session.Place, skip *uint64, emit func(session.Frame) error) error {
	return s.voices.speak(ctx, script, func(f session.Frame) error {
		if *skip > 0 {
			*skip--
			return nil
		}
		return emit(f)
	})
}

func (s *speaker) Control(c session.Command) {
	s.voices.mu.Lock()
	defer s.voices.mu.Unlock()
	s.voices.controls = append(s.voices.controls, c)
}

func (s *speaker) Worker() (string, string) { return "test", "" }

func (s *speaker) Close() {
	s.voices.mu.Lock()
	defer s.voices.mu.Unlock()
	s.voices.closed++
}

// aFrameARune speaks each character as one frame, the place of which in the
// utterance says what it is.
func aFrameARune(ctx context.Context, script *session.Script, emit func(session.Frame) error) error {
	at := 0
	for i := 0; ; i++ {
		text, last, err := script.Chunk(ctx, i)
		if err != nil {
			return err
		}
		for range text {
			if err := emit(session.Frame{PCM: frame(at), Received: time.Now()}); err != nil {
				return err
			}
			at++
		}
		if last {
			return nil
		}
	}
}

// edge is a real listener, Fiber app and hub.
type edge struct {
	t      *testing.T
	hub    *session.Hub
	voices *voices
	addr   string
	logs   *logBuffer
	noted  *noted
}

// noted is what the edge takes note of.
type noted struct {
	telemetry.Discard
	mu         sync.Mutex
	firstAudio []time.Duration
	ended      []string
}

func (n *noted) FirstAudio(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.firstAudio = append(n.firstAudio, d)
}

func (n *noted) UtteranceEnded(reason string, _ int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = append(n.ended, reason)
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testConfig() session.Config {
	return session.Config{
		MaxSessions: 10, MaxUtterances: 4, MaxUtteranceRunes: 20_000, QueueFrames: 10,
		PacingLead: 200 * time.Millisecond, SlowClientTimeout: time.Minute, ResumeWindow: time.Minute,
	}
}

// newSender is nil where there is no io_uring: then each session writes for itself.
var newSender = func() func() session.Sender {
	s, err := handlers.NewSender()
	if err != nil {
		return nil
	}
	s.Close()
	return func() session.Sender {
		s, err := handlers.NewSender()
		if err != nil {
			panic(err)
		}
		return s
	}
}()

func startEdge(t *testing.T, cfg session.Config, speak speakFunc, change ...func(*handlers.StreamConfig)) *edge {
	t.Helper()
	if speak == nil {
		speak = aFrameARune
	}
	e := &edge{t: t, voices: &voices{speak: speak}, logs: &logBuffer{}, noted: &noted{}}
	log := slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e.hub = session.NewHub(cfg, e.voices, nil, newSender, log, e.noted)
	stream := handlers.StreamConfig{MaxMessageBytes: 256 << 10, HandshakeTimeout: 5 * time.Second, HealthPort: 8081,
		Origins: middleware.Origins{"https://app.example"}}
	for _, c := range change {
		c(&stream)
	}
	app := handlers.Stream(e.hub, stream, log)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- app.Listener(handlers.Listen(ln, handlers.ListenConfig{MaxHandshakes: 256}, log)) }()
	t.Cleanup(func() {
		if !e.hub.Draining() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			e.hub.Drain(ctx)
		}
		e.hub.Close()
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Error(err)
		}
		_ = ln.Close() // an app that has not yet begun to accept is not stopped by its shutdown
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

// client is a real WebSocket client of another library than the edge's.
type client struct {
	t   *testing.T
	ws  *websocket.Conn
	ctx context.Context
}

// message is any message of the edge.
type message struct {
	Type         string          `json:"type"`
	SessionID    string          `json:"session_id"`
	ResumeToken  string          `json:"resume_token"`
	SampleRate   int             `json:"sample_rate"`
	FrameMillis  int             `json:"frame_ms"`
	Encoding     string          `json:"encoding"`
	PCM          string          `json:"pcm"`
	Sequence     uint64          `json:"sequence"`
	Utterance    uint64          `json:"utterance"`
	LastSequence uint64          `json:"last_sequence"`
	Reason       string          `json:"reason"`
	Code         string          `json:"code"`
	Message      string          `json:"message"`
	ID           json.RawMessage `json:"id"`
	ServerTime   int64           `json:"server_time_unix_ms"`
	Resumed      bool            `json:"resumed"`
	After        uint64          `json:"after"`
	Utterances   []struct {
		Utterance  uint64 `json:"utterance"`
		Characters int    `json:"characters"`
		IsFinal    bool   `json:"is_final"`
	} `json:"utterances"`

	samples []byte
}

type dialOption func(*websocket.DialOptions)

func withOrigin(d *websocket.DialOptions) {
	d.HTTPHeader = http.Header{"Origin": {"https://app.example"}}
}

func withBinary(d *websocket.DialOptions) { d.Subprotocols = []string{session.BinaryProtocol} }

// dial connects with a query and awaits nothing.
func (e *edge) dial(query string, options ...dialOption) (*client, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	e.t.Cleanup(cancel)
	d := &websocket.DialOptions{}
	for _, o := range options {
		o(d)
	}
	ws, response, err := websocket.Dial(ctx, "ws://"+e.addr+"/v1/stream?"+query, d)
	if err != nil {
		return nil, response, err
	}
	ws.SetReadLimit(1 << 20)
	e.t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{e.t, ws, ctx}, response, nil
}

// connect connects and takes the greeting.
func (e *edge) connect(query string, options ...dialOption) *client {
	e.t.Helper()
	c, _, err := e.dial(query, options...)
	if err != nil {
		e.t.Fatal(err)
	}
	if m := c.next(); m.Type != "session_start" || m.SessionID == "" {
		e.t.Fatalf("first message: %+v", m)
	}
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) say(text string, final bool) {
	c.t.Helper()
	data, _ := json.Marshal(map[string]any{"type": "text", "text": text, "is_final": final})
	c.send(string(data))
}

func (c *client) control(command session.Command) {
	c.t.Helper()
	c.send(`{"type":"control","command":"` + string(command) + `"}`)
}

func (c *client) read() (message, error) {
	kind, data, err := c.ws.Read(c.ctx)
	if err != nil {
		return message{}, err
	}
	var m message
	if kind == websocket.MessageBinary {
		m.Type, m.Sequence, m.samples = "audio", binary.LittleEndian.Uint64(data[8:]), data[16:]
		return m, nil
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	if m.Type == "audio" {
		m.samples, err = base64.StdEncoding.DecodeString(m.PCM)
		m.PCM = ""
	}
	return m, err
}

func (c *client) next() message {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// expect takes messages, of which audio is checked and passed over, until one
// of the wanted type.
func (c *client) expect(kind string) message {
	c.t.Helper()
	for {
		m := c.next()
		if m.Type == kind {
			return m
		}
		if m.Type != "audio" {
			c.t.Fatalf("got %+v while waiting for %s", m, kind)
		}
	}
}

// hear takes an utterance: frames from sequence on, whose places are from 0 on,
// and its end.
func (c *client) hear(from uint64, frames int, reason session.Reason) message {
	c.t.Helper()
	for i := range frames {
		m := c.next()
		if m.Type != "audio" || m.Sequence != from+uint64(i) || !bytes.Equal(m.samples, frame(i)) {
			m.samples = nil
			c.t.Fatalf("place %d of the utterance: %+v", i, m)
		}
	}
	m := c.next()
	if m.Type != "utterance_end" || m.Reason != string(reason) || m.LastSequence != from+uint64(frames)-1 {
		m.samples = nil
		c.t.Fatalf("end of the utterance: %+v", m)
	}
	return m
}

// expectClose takes the rest and checks how the edge closes. The last message
// before must be session_end.
func (c *client) expectClose(code websocket.StatusCode, endReason string) {
	c.t.Helper()
	var last message
	for {
		m, err := c.read()
		if err == nil {
			last = m
			continue
		}
		if got := websocket.CloseStatus(err); got != code {
			c.t.Fatalf("closed with %d (%v), want %d", got, err, code)
		}
		if endReason != "" && (last.Type != "session_end" || last.Reason != endReason) {
			c.t.Fatalf("last message %+v, want session_end %s", last, endReason)
		}
		return
	}
}

func get(t *testing.T, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func must(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Fatalf(format, args...)
	}
}

// eventually polls what no event tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal(strings.TrimSpace("never happened: " + what))
		}
		time.Sleep(time.Millisecond)
	}
}
