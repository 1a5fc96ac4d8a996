package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/voxedge/voxedge/proto"
)

// loopback is a worker on a port of this machine and an edge's connection to it.
type loopback struct {
	t      *testing.T
	ctx    context.Context // ends a test that hangs, and names where
	server *Server
	conn   *grpc.ClientConn
	tts    proto.TTSServiceClient
}

func startWorker(t *testing.T, engine Engine, maxSessions int) *loopback {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(engine, maxSessions, nil, slog.New(slog.DiscardHandler))
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()

	// The edge's fixed window: an automatic one would let a whole utterance
	// through before the test has a say.
	conn, err := grpc.NewClient("passthrough:///"+ln.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		server.Wait()
		if err := <-served; err != nil {
			t.Errorf("the gRPC server ended with %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &loopback{t: t, ctx: ctx, server: server, conn: conn, tts: proto.NewTTSServiceClient(conn)}
}

func (l *loopback) startSession(id, model string, options map[string]string) *proto.StartSessionResponse {
	l.t.Helper()
	reply, err := l.tts.StartSession(l.ctx, &proto.StartSessionRequest{SessionId: id, ModelId: model, Options: options})
	if err != nil {
		l.t.Fatalf("StartSession of %q: %v", id, err)
	}
	return reply
}

// open starts a session that must be taken.
func (l *loopback) open(id string, options map[string]string) {
	l.t.Helper()
	if reply := l.startSession(id, "", options); !reply.GetSuccess() {
		l.t.Fatalf("session %q was refused: %s", id, reply.GetMessage())
	}
}

// control gives a command that must succeed.
func (l *loopback) control(id string, command proto.ControlCommand) {
	l.t.Helper()
	reply, err := l.tts.Control(l.ctx, &proto.ControlRequest{SessionId: id, Command: command})
	if err != nil {
		l.t.Fatalf("%s: %v", command, err)
	}
	if !reply.GetSuccess() {
		l.t.Fatalf("%s did not succeed: %s", command, reply.GetMessage())
	}
}

func (l *loopback) endSession(id string) {
	l.t.Helper()
	reply, err := l.tts.EndSession(l.ctx, &proto.EndSessionRequest{SessionId: id})
	if err != nil {
		l.t.Fatalf("EndSession of %q: %v", id, err)
	}
	if !reply.GetSuccess() {
		l.t.Fatalf("EndSession of %q did not succeed", id)
	}
}

// until polls for what no event tells.
func (l *loopback) until(what string, condition func() bool) {
	l.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-l.ctx.Done():
			l.t.Fatalf("it never came about that %s", what)
		}
	}
}

// speech is one Synthesize stream.
type speech struct {
	t      *testing.T
	id     string
	stream proto.TTSService_SynthesizeClient
	chunks int64
}

func (l *loopback) speech(id string) *speech {
	l.t.Helper()
	stream, err := l.tts.Synthesize(l.ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	return &speech{t: l.t, id: id, stream: stream}
}

func (s *speech) send(text string, final bool) {
	s.t.Helper()
	s.chunks++
	chunk := &proto.TextChunk{SessionId: s.id, Text: text, IsFinal: final, SequenceNumber: s.chunks}
	if err := s.stream.Send(chunk); err != nil {
		s.t.Fatalf("sending %.40q: %v", text, err)
	}
}

func (s *speech) halfClose() {
	s.t.Helper()
	if err := s.stream.CloseSend(); err != nil {
		s.t.Fatal(err)
	}
}

// say sends the text as the whole utterance.
func (s *speech) say(text string) {
	s.t.Helper()
	s.send(text, true)
	s.halfClose()
}

func (s *speech) frame() *proto.AudioFrame {
	s.t.Helper()
	frame, err := s.stream.Recv()
	if err != nil {
		s.t.Fatalf("the stream of %q ended early: %v", s.id, err)
	}
	return frame
}

func (s *speech) frames(n int) (frames []*proto.AudioFrame) {
	s.t.Helper()
	for range n {
		frames = append(frames, s.frame())
	}
	return frames
}

// rest reads up to the stream's end, which must be a good one.
func (s *speech) rest() (frames []*proto.AudioFrame) {
	s.t.Helper()
	for {
		frame, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			s.t.Fatalf("the stream of %q failed after %d frames: %v", s.id, len(frames), err)
		}
		frames = append(frames, frame)
	}
}

// checkTone holds frames against the tone engine's, the first of them being
// the utterance's frame from, counted from 0.
func checkTone(t *testing.T, frames []*proto.AudioFrame, id string, hz float64, from int) {
	t.Helper()
	for i, f := range frames {
		i += from
		if f.GetSequenceNumber() != int64(i+1) {
			t.Fatalf("frame %d has the sequence number %d, want %d", i, f.GetSequenceNumber(), i+1)
		}
		if f.GetSessionId() != id || f.GetSampleRate() != 48000 || f.GetFrameDurationMs() != 20 || f.GetIsFinal() {
			t.Fatalf("frame %d is of session %q, %d Hz, %d ms, final %t", i, f.GetSessionId(), f.GetSampleRate(), f.GetFrameDurationMs(), f.GetIsFinal())
		}
		if f.GetEmittedUnixNano() == 0 {
			t.Fatalf("frame %d does not say when it was sent", i)
		}
		if !bytes.Equal(f.GetAudioData(), AppendTone(nil, hz, i)) {
			t.Fatalf("frame %d is not that of the tone at %g Hz", i, hz)
		}
	}
}

// checkUtterance holds the rest of an utterance against the tone: frames up to
// the total, then one end marker and nothing behind it.
func checkUtterance(t *testing.T, frames []*proto.AudioFrame, id string, hz float64, from, total int) {
	t.Helper()
	if len(frames) != total-from+1 {
		t.Fatalf("%d messages came, want %d frames and the end marker", len(frames), total-from)
	}
	checkTone(t, frames[:total-from], id, hz, from)
	checkEndMarker(t, frames[total-from], id, total)
}

func checkEndMarker(t *testing.T, f *proto.AudioFrame, id string, after int) {
	t.Helper()
	if !f.GetIsFinal() || len(f.GetAudioData()) != 0 || f.GetSessionId() != id || f.GetSequenceNumber() != int64(after+1) {
		t.Errorf("the end marker is final %t, %d bytes, session %q, sequence %d; want final, 0, %q, %d",
			f.GetIsFinal(), len(f.GetAudioData()), f.GetSessionId(), f.GetSequenceNumber(), id, after+1)
	}
}
