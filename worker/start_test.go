package worker

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A refusal is an answer, not a failed call: existing edges read it so.
func TestStartSessionRefuses(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	tests := []struct {
		name, id, model string
		options         map[string]string
		message         string
	}{
		{"no session id", "", "", nil, "session_id"},
		{"an unknown model", "a", "parrot", nil, "parrot"},
		{"a bad option", "a", "tone", map[string]string{"frequency": "high"}, "frequency"},
	}
	for _, tt := range tests {
		reply := l.startSession(tt.id, tt.model, tt.options)
		if reply.GetSuccess() {
			t.Errorf("%s: the session was taken", tt.name)
		}
		if !strings.Contains(reply.GetMessage(), tt.message) {
			t.Errorf("%s: %q does not name %q", tt.name, reply.GetMessage(), tt.message)
		}
	}
	if code := l.synthesizeCode("a"); code != codes.NotFound {
		t.Errorf("Synthesize in a refused session answers %s", code)
	}
}

// synthesizeCode returns how an utterance of the session ends.
func (l *loopback) synthesizeCode(id string) codes.Code {
	l.t.Helper()
	s := l.speech(id)
	s.send("x", true)
	for {
		_, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return codes.OK
		}
		if err != nil {
			return status.Code(err)
		}
	}
}

func TestStartSessionTakesTheDefaultModelWhenNoneIsNamed(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("a", nil)
	s := l.speech("a")
	s.say("x")
	checkUtterance(t, s.rest(), "a", toneHz, 0, 3)
}

// After an edge's restart its sessions come back by the same id.
func TestStartSessionOfAKnownSessionTakesTheNewOptions(t *testing.T) {
	l := startWorker(t, Tone{}, 1)
	l.open("a", map[string]string{"frequency": "500"})
	l.open("a", map[string]string{"frequency": "700"}) // needs no second place
	s := l.speech("a")
	s.say("x")
	checkUtterance(t, s.rest(), "a", 700, 0, 3)
}

func TestStartSessionRefusesWhenFull(t *testing.T) {
	l := startWorker(t, Tone{}, 2)
	l.open("a", nil)
	l.open("b", nil)
	reply := l.startSession("c", "", nil)
	if reply.GetSuccess() {
		t.Fatal("a third session was taken by a worker for two")
	}
	if !strings.Contains(reply.GetMessage(), "2") {
		t.Errorf("the refusal %q does not say how many are allowed", reply.GetMessage())
	}
	l.endSession("a")
	l.open("c", nil)
}

// age makes the session look as if it had last spoken so long ago.
func (l *loopback) age(id string, by time.Duration) {
	s := l.server.session(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = time.Now().Add(-by)
}

func TestFullWorkerForgetsDeadSessions(t *testing.T) {
	l := startWorker(t, Tone{}, 2)
	l.open("dead", nil)
	l.open("quiet", nil)
	l.age("dead", forgetAfter+time.Second)
	l.age("quiet", forgetAfter/2)
	l.open("new", nil)
	if code := l.synthesizeCode("dead"); code != codes.NotFound {
		t.Errorf("the forgotten session answers %s, want NotFound", code)
	}
	for _, id := range []string{"quiet", "new"} {
		if code := l.synthesizeCode(id); code != codes.OK {
			t.Errorf("session %q answers %s", id, code)
		}
	}
}

func TestFullWorkerKeepsASessionThatSpeaks(t *testing.T) {
	l := startWorker(t, Tone{}, 1)
	l.open("a", nil)
	s := l.speech("a")
	s.send("Hello. T", false)
	s.frame() // the utterance has begun
	l.age("a", 2*forgetAfter)
	if l.startSession("b", "", nil).GetSuccess() {
		t.Error("the place of a session that speaks was given away")
	}
	s.say("o you.")
	if got := len(s.rest()); got != 3*len("Hello. To you.") {
		t.Errorf("%d messages came after the first frame, want %d", got, 3*len("Hello. To you."))
	}
}

// While there is room nobody is forgotten: an edge may be quiet for long.
func TestWorkerWithRoomForgetsNobody(t *testing.T) {
	for _, maxSessions := range []int{0, 2} {
		l := startWorker(t, Tone{}, maxSessions)
		l.open("old", nil)
		l.age("old", 100*forgetAfter)
		l.open("new", nil)
		if code := l.synthesizeCode("old"); code != codes.OK {
			t.Errorf("with room for %d, the old session answers %s", maxSessions, code)
		}
	}
}

func TestAbandonedSessionsAreForgottenInTheEnd(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	l.open("abandoned", nil)
	l.age("abandoned", abandonedAfter+time.Second)
	l.server.mu.Lock()
	l.server.looked = l.server.looked.Add(-lookInterval)
	l.server.mu.Unlock()
	l.open("new", nil)
	if code := l.synthesizeCode("abandoned"); code != codes.NotFound {
		t.Errorf("the abandoned session answers %s, want NotFound", code)
	}
}
