package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/voxedge/voxedge/worker"
)

// listener is a client that comes back whenever its connection is lost, as a
// real one does, and holds every frame against what the tone engine must have
// said. Nothing may be missing, twice, or out of order.
type listener struct {
	t        testing.TB
	urls     []string // tried in turn
	query    string
	ws       *websocket.Conn
	id       string
	token    string
	sequence uint64   // of the last frame received
	place    int      // of the next frame in its utterance
	ended    uint64   // utterances
	said     []string // utterances, of which ended are over
	resumes  int
	hz       float64
	sound    [][]byte              // an utterance's frames, if it is not the tone
	heard    func(sequence uint64) // called for each frame
}

func listen(t testing.TB, query string, urls ...string) *listener {
	t.Helper()
	l := &listener{t: t, urls: urls, query: query, hz: 440, heard: func(uint64) {}}
	l.connect()
	t.Cleanup(func() { _ = l.ws.CloseNow() })
	return l
}

// connect opens the session, or resumes it, at the first edge that takes it.
func (l *listener) connect() {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var err error
		for _, url := range l.urls {
			if err = l.dial(url); err == nil {
				return
			}
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("no edge takes the session %s after %d: %v", l.id, l.sequence, err)
		}
		time.Sleep(10 * time.Millisecond) // as any client does
	}
}

func (l *listener) dial(url string) error {
	url += "/v1/stream?" + l.query
	if l.id != "" {
		url += fmt.Sprintf("&session=%s&resume_token=%s&after=%d", l.id, l.token, l.sequence)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	ws.SetReadLimit(1 << 20)
	l.ws = ws
	m, err := l.read()
	if err == nil && (m.Type != "session_start" || l.id != "" && m.SessionID != l.id) {
		err = fmt.Errorf("first message: %+v", m)
	}
	if err != nil {
		return errors.Join(err, ws.CloseNow())
	}
	if l.id != "" {
		l.resumes++
		l.sayAgain(m.Accepted)
	}
	l.id, l.token = m.SessionID, m.ResumeToken
	return nil
}

// sayAgain says what was lost with the connection on its way to the edge, or
// with an edge before it reached the journal: not what has been heard to its end.
func (l *listener) sayAgain(accepted uint64) {
	if accepted <= l.ended && uint64(len(l.said)) > l.ended {
		l.place = 0 // what was heard of it was the start of what comes again
	}
	for _, text := range l.said[max(accepted, l.ended):] {
		l.send(map[string]any{"type": "text", "text": text})
	}
}

func (l *listener) read() (m message, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, data, err := l.ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	return m, err
}

func (l *listener) send(v any) {
	l.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.ws.Write(ctx, websocket.MessageText, data); err != nil {
		l.t.Fatal(err)
	}
}

func (l *listener) say(text string) {
	l.t.Helper()
	l.said = append(l.said, text)
	l.send(map[string]any{"type": "text", "text": text})
}

// hear takes utterances until so many more have ended, coming back as often as
// it must. It returns the end of the last.
func (l *listener) hear(utterances int) (end message) {
	l.t.Helper()
	for upTo := l.ended + uint64(utterances); l.ended < upTo; {
		m, err := l.read()
		if err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				l.t.Fatalf("session %s: no frame came after %d: %v", l.id, l.sequence, err)
			}
			_ = l.ws.CloseNow()
			l.connect()
			continue
		}
		switch m.Type {
		case "audio":
			l.take(m)
		case "utterance_end":
			if m.Utterance <= l.ended { // said again after a resume
				continue
			}
			l.ended, l.place = m.Utterance, 0
			end = m
		case "error":
			if m.Code == "DRAINING" || m.Code == "SLOW_CLIENT" {
				continue // a close follows, after which the session is resumed
			}
			l.t.Fatalf("%+v", m)
		case "session_end":
		default:
			l.t.Fatalf("%+v", m)
		}
	}
	return end
}

func (l *listener) take(m message) {
	l.t.Helper()
	if m.Sequence != l.sequence+1 {
		l.t.Fatalf("frame %d came after %d", m.Sequence, l.sequence)
	}
	if l.sound != nil {
		if l.place >= len(l.sound) || !bytes.Equal(m.PCM, l.sound[l.place]) {
			l.t.Fatalf("frame %d of session %s is not frame %d of %d of its utterance", m.Sequence, l.id, l.place, len(l.sound))
		}
	} else if !bytes.Equal(m.PCM, worker.AppendTone(nil, l.hz, l.place)) {
		l.t.Fatalf("frame %d of session %s is not frame %d of its utterance but %d", m.Sequence, l.id, l.place, l.placeOf(m.PCM))
	}
	l.sequence++
	l.place++
	l.heard(m.Sequence)
}

// placeOf finds the frame in the tone, or returns -1.
func (l *listener) placeOf(pcm []byte) int {
	for i := range 1000 {
		if bytes.Equal(pcm, worker.AppendTone(nil, l.hz, i)) {
			return i
		}
	}
	return -1
}

// expectEnd checks how an utterance of so many characters ended.
func (l *listener) expectEnd(end message, runes int) {
	l.t.Helper()
	if end.Reason != "completed" || end.LastSequence != l.sequence {
		l.t.Fatalf("%+v after frame %d", end, l.sequence)
	}
	if want := uint64(runes * worker.ToneFramesPerRune); l.sequence%want != 0 {
		l.t.Fatalf("%d frames, want %d an utterance", l.sequence, want)
	}
}
