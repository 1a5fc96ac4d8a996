package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
	"github.com/voxedge/voxedge/worker"
)

const (
	patience = 30 * time.Second // ends a test that hangs
	toneHz   = 440
)

// ttsWorker is a worker on a port of this machine that behaves as the test
// says. Its functions are set before it is started.
type ttsWorker struct {
	proto.UnimplementedTTSServiceServer
	t      *testing.T
	name   string
	addr   string
	health *health.Server // nil: it has no grpc.health.v1
	limits []grpc.ServerOption

	speak   func(*utterance) error // speakTone unless set
	start   func(context.Context, *proto.StartSessionRequest) (*proto.StartSessionResponse, error)
	control func(context.Context, *proto.ControlRequest)

	mu       sync.Mutex
	caps     *proto.GetCapabilitiesResponse
	models   []string // nil: it does not list them
	server   *grpc.Server
	served   chan error
	calls    []string // in the order in which they came
	changed  chan struct{}
	sessions map[string]bool
	started  map[string]int // sessions that it took
	ended    map[string]int
	excused  bool // its process died or lost its memory: no EndSession is owed
}

func startWorker(t *testing.T, name string, configure func(*ttsWorker)) *ttsWorker {
	t.Helper()
	w := &ttsWorker{
		t: t, name: name, changed: make(chan struct{}),
		speak: speakTone, caps: &proto.GetCapabilitiesResponse{Capabilities: &proto.Capabilities{}},
		sessions: map[string]bool{}, started: map[string]int{}, ended: map[string]int{},
	}
	if configure != nil {
		configure(w)
	}
	w.serve("127.0.0.1:0")
	t.Cleanup(w.stop)
	return w
}

func (w *ttsWorker) serve(addr string) {
	w.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addr = ln.Addr().String()
	w.server = grpc.NewServer(append(w.limits, grpc.WaitForHandlers(true))...)
	w.served = make(chan error, 1)
	proto.RegisterTTSServiceServer(w.server, w)
	if w.health != nil {
		healthpb.RegisterHealthServer(w.server, w.health)
	}
	server, served := w.server, w.served
	go func() { served <- server.Serve(ln) }()
}

// stop cuts all connections and stops listening.
func (w *ttsWorker) stop() {
	w.mu.Lock()
	server, served := w.server, w.served
	w.server = nil
	w.mu.Unlock()
	if server != nil {
		server.Stop()
		<-served
	}
}

// die is stop for a worker whose sessions nobody can end any more.
func (w *ttsWorker) die() {
	w.forget()
	w.stop()
}

// forget does what a restart does to a worker's memory.
func (w *ttsWorker) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.excused = true
	clear(w.sessions)
}

func (w *ttsWorker) announcement() Announcement {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Announcement{Name: w.name, Addr: w.addr}
}

// record takes note of a call.
func (w *ttsWorker) record(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
	close(w.changed)
	w.changed = make(chan struct{})
}

// heard returns the calls that begin with the prefix.
func (w *ttsWorker) heard(prefix string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []string
	for _, call := range w.calls {
		if strings.HasPrefix(call, prefix) {
			some = append(some, call)
		}
	}
	return some
}

// await waits for a call.
func (w *ttsWorker) await(call string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		came, changed := slices.Contains(w.calls, call), w.changed
		w.mu.Unlock()
		if came {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("worker %s never got %q, but %q", w.name, call, w.heard(""))
		}
	}
}

func (w *ttsWorker) StartSession(ctx context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
	w.record("StartSession %s", r.GetSessionId())
	if w.start != nil {
		if reply, err := w.start(ctx, r); err != nil || !reply.GetSuccess() {
			return reply, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[r.GetSessionId()] = true
	w.started[r.GetSessionId()]++
	return &proto.StartSessionResponse{Success: true}, nil
}

func (w *ttsWorker) EndSession(_ context.Context, r *proto.EndSessionRequest) (*proto.EndSessionResponse, error) {
	w.mu.Lock()
	delete(w.sessions, r.GetSessionId())
	w.ended[r.GetSessionId()]++
	w.mu.Unlock()
	w.record("EndSession %s", r.GetSessionId())
	return &proto.EndSessionResponse{Success: true}, nil
}

func (w *ttsWorker) Control(ctx context.Context, r *proto.ControlRequest) (*proto.ControlResponse, error) {
	w.record("Control %s %s", r.GetSessionId(), r.GetCommand())
	if w.control != nil {
		w.control(ctx, r)
	}
	return &proto.ControlResponse{Success: true}, nil
}

func (w *ttsWorker) GetCapabilities(context.Context, *proto.GetCapabilitiesRequest) (*proto.GetCapabilitiesResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.caps, nil
}

func (w *ttsWorker) ListModels(context.Context, *proto.ListModelsRequest) (*proto.ListModelsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.models == nil {
		return nil, status.Error(codes.Unimplemented, "no models")
	}
	reply := &proto.ListModelsResponse{}
	for _, id := range w.models {
		reply.Models = append(reply.Models, &proto.ModelInfo{ModelId: id})
	}
	return reply, nil
}

func (w *ttsWorker) Synthesize(stream proto.TTSService_SynthesizeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	id := first.GetSessionId()
	w.mu.Lock()
	known := w.sessions[id]
	w.mu.Unlock()
	if !known {
		w.record("NOT_FOUND %s", id)
		return status.Errorf(codes.NotFound, "there is no session %s", id)
	}
	w.record("Synthesize %s", id)
	u := &utterance{TTSService_SynthesizeServer: stream, worker: w, id: id, first: first}
	err = w.speak(u)
	if stream.Context().Err() != nil {
		w.record("cancelled %s", id)
	}
	return err
}

// checkEnded reports sessions that were not ended, or not once.
func (w *ttsWorker) checkEnded() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.excused {
		return
	}
	for id := range w.started {
		if w.ended[id] != 1 {
			w.t.Errorf("worker %s: session %s was ended %d times: %q", w.name, id, w.ended[id], w.calls)
		}
	}
	for _, call := range w.calls {
		if strings.HasPrefix(call, "NOT_FOUND") {
			w.t.Errorf("worker %s: a Synthesize came before its StartSession: %q", w.name, w.calls)
		}
	}
}

// utterance is one Synthesize stream as the worker sees it.
type utterance struct {
	proto.TTSService_SynthesizeServer
	worker *ttsWorker
	id     string
	first  *proto.TextChunk
	sent   int64
}

// next returns the next chunk of text.
func (u *utterance) next() (*proto.TextChunk, error) {
	if chunk := u.first; chunk != nil {
		u.first = nil
		return chunk, nil
	}
	return u.Recv()
}

// text reads up to the half-close.
func (u *utterance) text() (string, error) {
	var text strings.Builder
	for {
		chunk, err := u.next()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		text.WriteString(chunk.GetText())
	}
}

func (u *utterance) send(audio []byte, final bool) error {
	u.sent++
	return u.Send(&proto.AudioFrame{
		SessionId: u.id, AudioData: audio, SampleRate: session.SampleRate, FrameDurationMs: int32(session.FrameMillis),
		SequenceNumber: u.sent, IsFinal: final,
	})
}

// tone sends frames from and up to, but not with, to.
func (u *utterance) tone(from, to int) error {
	for i := from; i < to; i++ {
		if err := u.send(worker.AppendTone(nil, toneHz, i), false); err != nil {
			return err
		}
	}
	return nil
}

// hang says nothing until the stream is cut or cancelled.
func (u *utterance) hang() error {
	<-u.Context().Done()
	return u.Context().Err()
}

// speakTone reads all the text, speaks the reference worker's tone and ends it
// with an end marker.
func speakTone(u *utterance) error {
	text, err := u.text()
	if err != nil {
		return err
	}
	if err := u.tone(0, framesOf(text)); err != nil {
		return err
	}
	return u.send(nil, true)
}

func framesOf(text string) int { return worker.ToneFramesPerRune * utf8.RuneCountInString(text) }
