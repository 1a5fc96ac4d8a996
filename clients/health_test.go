package clients

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// serveGRPC serves what register adds on a port of this machine.
func serveGRPC(t *testing.T, register func(*grpc.Server)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return ln.Addr().String()
}

// hangingTTS never says what it can.
type hangingTTS struct {
	proto.UnimplementedTTSServiceServer
}

func (hangingTTS) GetCapabilities(ctx context.Context, _ *proto.GetCapabilitiesRequest) (*proto.GetCapabilitiesResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// brokenTTS fails to say what it can.
type brokenTTS struct {
	proto.UnimplementedTTSServiceServer
}

func (brokenTTS) GetCapabilities(context.Context, *proto.GetCapabilitiesRequest) (*proto.GetCapabilitiesResponse, error) {
	return nil, status.Error(codes.Internal, "the graphics card is gone")
}

func TestWhatIsNotHealthyAndWhy(t *testing.T) {
	tests := []struct {
		name string
		addr func(*testing.T) string
		why  string
	}{
		{"nothing listens", func(t *testing.T) string { return nothingListens(t) }, "connection refused"},
		{"gRPC without the service", func(t *testing.T) string {
			return serveGRPC(t, func(*grpc.Server) {})
		}, "not tts.TTSService"},
		{"gRPC that is healthy, but without the service", func(t *testing.T) string {
			return serveGRPC(t, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) })
		}, "not tts.TTSService"},
		{"no gRPC", func(t *testing.T) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
					_ = conn.Close()
				}
			}()
			t.Cleanup(func() { _ = ln.Close(); <-served })
			return ln.Addr().String()
		}, "health check: Unavailable"},
		{"a worker that says it does not serve", func(t *testing.T) string {
			return startWorker(t, "a", func(w *ttsWorker) {
				w.health = health.NewServer()
				w.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
			}).addr
		}, "NOT_SERVING"},
		{"a worker that hangs", func(t *testing.T) string {
			return serveGRPC(t, func(s *grpc.Server) { proto.RegisterTTSServiceServer(s, hangingTTS{}) })
		}, "GetCapabilities: DeadlineExceeded"},
		{"a worker that is broken", func(t *testing.T) string {
			return serveGRPC(t, func(s *grpc.Server) { proto.RegisterTTSServiceServer(s, brokenTTS{}) })
		}, "the graphics card is gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := startEdgeAt(t, poolConfig(), Static{{Name: "a", Addr: tt.addr(t)}})
			e.until("it was checked", func() bool {
				_, known := e.pool.Workers()
				return known == 1 && len(e.log.find("worker is not healthy")) > 0
			})
			line := e.log.find("worker is not healthy")[0]
			if !strings.Contains(line.attrs["cause"], tt.why) || line.attrs["resolution"] == "" || line.attrs["worker"] != "a" {
				t.Errorf("the log says %v, want that it says %q", line.attrs, tt.why)
			}
			if err := e.pool.Ready(e.ctx); err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("readiness says %v, want %q", err, tt.why)
			}
			if healthy, known := e.pool.Workers(); healthy != 0 || known != 1 {
				t.Errorf("%d of %d workers are healthy, want none of one", healthy, known)
			}
		})
	}
}

func TestAWorkerIsHealthy(t *testing.T) {
	tests := map[string]func(*ttsWorker){
		"that has no grpc.health.v1": nil,
		"that says so":               func(w *ttsWorker) { w.health = health.NewServer() },
		"that lists its models":      func(w *ttsWorker) { w.models = []string{"x"} },
		"that says nothing of what it can": func(w *ttsWorker) {
			w.caps = &proto.GetCapabilitiesResponse{}
		},
	}
	for name, configure := range tests {
		t.Run(name, func(t *testing.T) {
			e := startEdge(t, poolConfig(), startWorker(t, "a", configure))
			if err := e.pool.Ready(e.ctx); err != nil {
				t.Errorf("it is not ready: %v", err)
			}
			e.hearTone(e.session("s", session.Params{}), "text")
		})
	}
}

// A worker that drains says NOT_SERVING and lets what it speaks end.
func TestAWorkerThatDrainsFinishesAndGetsNothingNew(t *testing.T) {
	a := startWorker(t, "a", func(w *ttsWorker) { preferred(w); w.health = health.NewServer() })
	b := startWorker(t, "b", nil)
	e := startEdge(t, poolConfig(), a, b)
	s := e.session("s", voice)
	hold := make(chan struct{})
	sp, began := e.start(s, script("text"), hold)
	await(t, "the first frame", began)
	a.health.Shutdown()
	e.until("the edge knows", func() bool { healthy, _ := e.pool.Workers(); return healthy == 1 })
	e.hearTone(e.session("new", voice), "text")
	close(hold)
	if err := await(t, "the end", sp.done); err != nil {
		t.Fatal(err)
	}
	checkTone(t, sp.frames, toneHz, 0, framesOf("text"))
	if calls := a.heard("Synthesize"); len(calls) != 1 {
		t.Errorf("the worker that drains got %q, want one", calls)
	}

	a.health.Resume()
	e.awaitHealthy(2)
	e.hearTone(e.session("newer", voice), "text")
	if calls := a.heard("Synthesize"); len(calls) != 2 {
		t.Errorf("the worker that is back got %q, want two", calls)
	}
	if lines := e.log.find("worker is not healthy"); len(lines) != 1 {
		t.Errorf("it was logged %d times that a worker is not healthy, want once", len(lines))
	}
}

// What a worker can is asked again and again, for it changes.
func TestTheEdgeKeepsUpWithWhatAWorkerCan(t *testing.T) {
	w := startWorker(t, "a", nil)
	e := startEdge(t, poolConfig(), w)
	w.mu.Lock()
	w.caps = &proto.GetCapabilitiesResponse{
		Capabilities: &proto.Capabilities{Languages: []string{"fi"}}, ResidentModels: []string{"x"}, Metrics: map[string]float64{"queue_depth": 7},
	}
	w.mu.Unlock()
	e.until("the edge knows", func() bool { return e.worker("a").hasResident("x") })
	if load := e.worker("a").load(); load != 7 {
		t.Errorf("its load is %g, want 7", load)
	}
	if why, _ := e.worker("a").unfit(want{language: "de"}); why != `without the language "de"` {
		t.Errorf("for German it is unfit because %q", why)
	}
}
