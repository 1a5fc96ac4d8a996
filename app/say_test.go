package app

import (
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// sayToFile says through the edge and returns the samples of the file.
func (r *running) sayToFile(stdin io.Reader, args ...string) (outcome, []byte) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "said.wav")
	got := runMain(nil, stdin, append([]string{"say", "--url", r.url, "-o", path}, args...)...)
	if got.status != exitOK {
		r.t.Fatalf("say ended with %d: %s", got.status, got.stderr)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	return got, samplesOf(r.t, file, -1)
}

func TestSayIsHeardBitByBit(t *testing.T) {
	r := startEdge(t, nil)
	long := strings.Repeat("All work and no play makes Jack a dull boy. ", 228) // 10,032 characters: two messages
	tests := []struct {
		name, text string
		stdin      string
		args       []string
		hz         float64
	}{
		{"a word", "Hello", "", nil, 440},
		{"sentences", "Hello there. General Kenobi! You are a bold one.", "", nil, 440},
		{"characters of many bytes", "Grüße, 世界! 👋", "", nil, 440},
		{"more than one message takes", long, "", nil, 440},
		{"an option for the worker", "Hello", "", []string{"--option", "frequency=880"}, 880},
		{"a model", "Hello", "", []string{"--model", "tone"}, 440},
		{"in real time", "Hi", "", []string{"--pacing", "realtime"}, 440},
		{"standard input", "-", "From a pipe. In two sentences.\n", nil, 440},
		// Its fourth kilobyte ends in the middle of a character.
		{"long standard input", "-", "aa" + strings.Repeat("👋", 1100), nil, 440},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &running{t: t, url: r.url}
			got, sound := r.sayToFile(strings.NewReader(tt.stdin), append(tt.args, tt.text)...)
			spoken := tt.text
			if tt.text == "-" {
				spoken = tt.stdin
			}
			checkSound(t, sound, tone(tt.hz, len([]rune(spoken))))
			if !strings.Contains(got.stderr, " 0 gaps") || !strings.Contains(got.stderr, "session ") {
				t.Errorf("it ends with %q", got.stderr)
			}
		})
	}
}

// dripReader gives a byte at a time, as a slow pipe might.
type dripReader struct{ left string }

func (r *dripReader) Read(p []byte) (int, error) {
	if r.left == "" {
		return 0, io.EOF
	}
	p[0], r.left = r.left[0], r.left[1:]
	return 1, nil
}

func TestSayStandardInputCutWithinCharacters(t *testing.T) {
	r := startEdge(t, nil)
	const text = "Grüße, 世界! 👋 Bye."
	_, sound := r.sayToFile(&dripReader{text}, "-")
	checkSound(t, sound, tone(440, len([]rune(text))))
}

// Standard input is spoken while it is still being written: a language model
// can be piped in.
func TestSayStandardInputIsHeardBeforeItEnds(t *testing.T) {
	r := startEdge(t, nil)
	stdin, text := io.Pipe()
	sound, stdout := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- Main([]string{"say", "--url", r.url, "-o", "-", "-"}, nil, stdin, stdout, t.Output())
		_ = stdout.Close()
	}()
	write := func(s string) {
		t.Helper()
		if _, err := io.WriteString(text, s); err != nil {
			t.Fatal(err)
		}
	}

	read := func(n int) []byte {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(sound, b); err != nil {
			t.Fatal(err)
		}
		return b
	}

	write("First. ")
	heard := read(wavHeader + len(tone(440, len("First. "))))
	write("Second.")
	if err := text.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(sound)
	if err != nil {
		t.Fatal(err)
	}
	checkSound(t, samplesOf(t, append(heard, rest...), endless), tone(440, len("First. Second.")))
	if got := <-status; got != exitOK {
		t.Errorf("the exit status is %d", got)
	}
}

// sayFailed is a say that must fail with a cause and a resolution.
func sayFailed(t *testing.T, status int, want []string, stdin io.Reader, args ...string) {
	t.Helper()
	got := runMain(nil, stdin, append([]string{"say", "-o", filepath.Join(t.TempDir(), "said.wav")}, args...)...)
	if got.status != status {
		t.Errorf("the exit status is %d, want %d", got.status, status)
	}
	if !strings.HasPrefix(got.stderr, "voxedge: ") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("it says %q, want one line", got.stderr)
	}
	for _, part := range want {
		if !strings.Contains(got.stderr, part) {
			t.Errorf("it says %q, want %q in it", got.stderr, part)
		}
	}
}

func TestSayTellsWhyItCannot(t *testing.T) {
	r := startEdge(t, map[string]string{"MAX_UTTERANCE_CHARS": "10050"})
	server := strings.TrimSuffix(r.url, "/v1/stream")
	stranger := httptest.NewTLSServer(nil)
	defer stranger.Close()
	tests := []struct {
		name   string
		status int
		want   []string
		args   []string
	}{
		{"no edge", 1, []string{"ws://127.0.0.1:1", "voxedge dev"}, []string{"--url", "ws://127.0.0.1:1/v1/stream", "Hello"}},
		{"a certificate of nobody", 1, []string{"certificate", "voxedge doctor"}, []string{"--url", strings.Replace(stranger.URL, "https", "wss", 1), "Hello"}},
		{"no WebSocket URL", 2, []string{"http://localhost:8080", "ws://"}, []string{"--url", "http://localhost:8080", "Hello"}},
		{"no URL", 2, []string{"ws://"}, []string{"--url", "localhost", "Hello"}},
		{"another path", 1, []string{"404", "--url"}, []string{"--url", server + "/nothing", "Hello"}},
		{"an option without a value", 2, []string{`"frequency"`, "name=value"}, []string{"--url", r.url, "--option", "frequency", "Hello"}},
		{"an unknown pacing", 1, []string{"INVALID_MESSAGE", "slow"}, []string{"--url", r.url, "--pacing", "slow", "Hello"}},
		{"an unknown model", 1, []string{"WORKER_UNAVAILABLE"}, []string{"--url", r.url, "--model", "parrot", "Hello"}},
		{"an empty text", 1, []string{"INVALID_MESSAGE", "empty"}, []string{"--url", r.url, ""}},
		{"too long a text", 1, []string{"LIMIT_REACHED"}, []string{"--url", r.url, strings.Repeat("long ", 2020)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { sayFailed(t, tt.status, tt.want, nil, tt.args...) })
	}
}

// The limit is documented as that of the whole utterance, and so of one that
// comes in a single message.
func TestSayTellsOfTooLongAnUtteranceInOneMessage(t *testing.T) {
	r := startEdge(t, map[string]string{"MAX_UTTERANCE_CHARS": "20"})
	sayFailed(t, 1, []string{"LIMIT_REACHED"}, nil, "--url", r.url, "This has more than twenty characters.")
}

// A text that a limit refuses has no utterance_end.
func TestSayEndsWhenALimitRefusesTheText(t *testing.T) {
	r := startEdge(t, map[string]string{"ADDRESS_CHARACTERS_PER_MINUTE": "5"})
	sayFailed(t, 1, []string{"RATE_LIMITED", "limit of 5 a minute"}, nil, "--url", r.url, "Hello there.")
}

func TestSayTellsWhenTheEdgeIsFull(t *testing.T) {
	r := startEdge(t, map[string]string{"MAX_CONNECTIONS": "1"})
	ws, _, err := websocket.Dial(t.Context(), r.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	sayFailed(t, 1, []string{"AT_CAPACITY", "again"}, nil, "--url", r.url, "Hello")
	_ = ws.CloseNow()
}

func TestSayToAFileThatCannotBeWritten(t *testing.T) {
	got := runMain(nil, nil, "say", "-o", filepath.Join(t.TempDir(), "none", "a.wav"), "Hello")
	if got.status != exitFailed || !strings.Contains(got.stderr, "-o hello.wav") {
		t.Errorf("the exit status is %d: %s", got.status, got.stderr)
	}
}

// A terminal or pipe that stays open must not keep say from telling what the
// edge refused.
func TestSayEndsAtARefusalWhileStandardInputIsOpen(t *testing.T) {
	r := startEdge(t, map[string]string{"MAX_UTTERANCE_CHARS": "20"})
	stdin, text := io.Pipe()
	ended := make(chan outcome, 1)
	go func() {
		ended <- runMain(nil, stdin, "say", "--url", r.url, "-o", filepath.Join(t.TempDir(), "said.wav"), "-")
	}()
	for range 2 { // the second passes the limit
		if _, err := io.WriteString(text, "fifteen letters"); err != nil {
			t.Fatal(err)
		}
	}
	var got outcome
	select {
	case got = <-ended:
		_ = text.Close()
	case <-time.After(10 * time.Second): // for a say that never ends
		t.Error("say waits for standard input")
		_ = text.Close()
		got = <-ended
	}
	if got.status != exitFailed || !strings.Contains(got.stderr, "LIMIT_REACHED") {
		t.Errorf("the exit status is %d: %s", got.status, got.stderr)
	}
}
