package app

import (
	"io"
	"strings"
	"testing"
)

// pipedSay says in the background, its sound to be read from the pipe.
func (r *running) pipedSay(text string) (sound io.Reader, ended <-chan outcome) {
	pipe, stdout := io.Pipe()
	done := make(chan outcome, 1)
	go func() {
		var stderr strings.Builder
		status := Main([]string{"say", "--url", r.url, "-o", "-", "--pacing", "realtime", text}, nil, nil, stdout, &stderr)
		_ = stdout.Close()
		done <- outcome{status: status, stderr: stderr.String()}
	}()
	return pipe, done
}

// readFrame reads the WAV header and the first frame: the utterance has begun.
func readFrame(t *testing.T, sound io.Reader) []byte {
	t.Helper()
	head := make([]byte, wavHeader+1920)
	if _, err := io.ReadFull(sound, head); err != nil {
		t.Fatal(err)
	}
	return head
}

func TestEdgeEndsCleanlyWithNobodyThere(t *testing.T) {
	r := startEdge(t, nil)
	r.stopEdge()
	sayFailed(t, 1, []string{"there is no edge"}, nil, "--url", r.url, "Hello")
}

func TestEdgeLetsARunningUtteranceEnd(t *testing.T) {
	r := startEdge(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"})
	const text = "Not before this." // about a second
	sound, ended := r.pipedSay(text)
	head := readFrame(t, sound)
	go r.stopEdge()
	rest, err := io.ReadAll(sound)
	if err != nil {
		t.Fatal(err)
	}
	checkSound(t, samplesOf(t, append(head, rest...), endless), tone(440, len(text)))
	if got := <-ended; got.status != exitOK {
		t.Errorf("say ended with %d: %s", got.status, got.stderr)
	}
	r.stopEdge()
}

func TestEdgeCutsAnUtteranceOffThatTakesTooLong(t *testing.T) {
	r := startEdge(t, map[string]string{"SHUTDOWN_TIMEOUT": "10ms"})
	text := strings.Repeat("long ", 400) // two minutes
	sound, ended := r.pipedSay(text)
	head := readFrame(t, sound)
	go r.stopEdge()
	rest, err := io.ReadAll(sound)
	if err != nil {
		t.Fatal(err)
	}
	got := <-ended
	if got.status != exitFailed || !strings.Contains(got.stderr, "DRAINING") {
		t.Errorf("say ended with %d: %s", got.status, got.stderr)
	}
	// What was heard is a part of the whole, not noise.
	heard := samplesOf(t, append(head, rest...), endless)
	whole := tone(440, len(text))
	if len(heard) >= len(whole) {
		t.Fatal("the whole utterance was heard")
	}
	checkSound(t, heard, whole[:len(heard)])
	r.stopEdge()
}
