package worker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/telemetry"
)

// A session that does nothing for forgetAfter gives its place to another when the
// worker is full, and after abandonedAfter in any case: its edge has died. An edge
// that has not starts it anew.
const (
	forgetAfter    = 10 * time.Minute
	abandonedAfter = 24 * time.Hour
	lookInterval   = time.Minute
)

// Server serves tts.TTSService for an engine.
type Server struct {
	proto.UnimplementedTTSServiceServer
	engine      Engine
	maxSessions int // 0: no limit
	log         *slog.Logger
	tracer      *telemetry.Tracer // nil: frames are not traced
	health      *health.Server
	reading     sync.WaitGroup // the goroutines that read the streams' text

	mu       sync.Mutex
	sessions map[string]*ttsSession
	loaded   map[string]bool // by model
	waiting  int             // sentences that wait to be spoken
	looked   time.Time       // for those to forget
	rtf      float64         // moving average of engine time to audio time
}

// NewServer returns a server whose models are all loaded.
func NewServer(engine Engine, maxSessions int, tracer *telemetry.Tracer, log *slog.Logger) *Server {
	s := &Server{
		engine: engine, maxSessions: maxSessions, tracer: tracer, log: log, health: health.NewServer(),
		sessions: map[string]*ttsSession{}, loaded: map[string]bool{},
	}
	for _, m := range engine.Models() {
		s.loaded[m.ID] = true
	}
	return s
}

// Traced keeps what belongs to no utterance out of the traces: it is a filter
// for otelgrpc.
func Traced(call *stats.RPCTagInfo) bool {
	return call.FullMethodName == proto.TTSService_Synthesize_FullMethodName || call.FullMethodName == proto.TTSService_StartSession_FullMethodName
}

// Register adds the service, grpc.health.v1 and reflection to g.
func (s *Server) Register(g *grpc.Server) {
	proto.RegisterTTSServiceServer(g, s)
	healthpb.RegisterHealthServer(g, s.health)
	reflection.Register(g)
}

// Drain makes health checks fail, so that edges send nothing new.
func (s *Server) Drain() { s.health.Shutdown() }

// Wait waits for what the calls have left running. The gRPC server must have
// been stopped.
func (s *Server) Wait() { s.reading.Wait() }

// StartSession opens or reopens a session. It refuses when the worker is full
// or the model or an option is not to be had.
func (s *Server) StartSession(_ context.Context, r *proto.StartSessionRequest) (*proto.StartSessionResponse, error) {
	if r.GetSessionId() == "" {
		return &proto.StartSessionResponse{Message: "session_id is empty"}, nil
	}
	model := r.GetModelId()
	if model == "" {
		model = s.engine.Models()[0].ID
	}
	if !s.hasModel(model) {
		return &proto.StartSessionResponse{Message: fmt.Sprintf("there is no model %.100q", model)}, nil
	}
	if _, err := s.engine.Open(model, r.GetOptions()); err != nil {
		return &proto.StartSessionResponse{Message: err.Error()}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetDead(time.Now())
	if s.sessions[r.GetSessionId()] == nil && s.full() {
		return &proto.StartSessionResponse{Message: fmt.Sprintf("all %d sessions are taken", s.maxSessions)}, nil
	}
	s.loaded[model] = true
	s.sessions[r.GetSessionId()] = newTTSSession(model, maps.Clone(r.GetOptions()))
	s.log.Debug("session started", "session_id", r.GetSessionId(), "model", model)
	return &proto.StartSessionResponse{Success: true}, nil
}

// forgetDead takes the places of sessions whose edges have died. The lock is held.
func (s *Server) forgetDead(now time.Time) {
	limit := abandonedAfter
	if s.full() {
		limit = forgetAfter
	} else if now.Sub(s.looked) < lookInterval {
		return
	}
	s.looked = now
	maps.DeleteFunc(s.sessions, func(id string, t *ttsSession) bool {
		dead := t.idleSince(now) > limit
		if dead {
			s.log.Warn("session forgotten", "session_id", id, "cause", "its edge never ended it", "resolution", "look at that edge's log")
		}
		return dead
	})
}

func (s *Server) full() bool { return s.maxSessions > 0 && len(s.sessions) >= s.maxSessions }

// EndSession ends a session and what it is saying. One that is not known is
// ended already.
func (s *Server) EndSession(_ context.Context, r *proto.EndSessionRequest) (*proto.EndSessionResponse, error) {
	s.mu.Lock()
	t := s.sessions[r.GetSessionId()]
	delete(s.sessions, r.GetSessionId())
	s.mu.Unlock()
	if t != nil {
		t.stop()
		s.log.Debug("session ended", "session_id", r.GetSessionId())
	}
	return &proto.EndSessionResponse{Success: true}, nil
}

// Control pauses, resumes or stops one session within a frame.
func (s *Server) Control(_ context.Context, r *proto.ControlRequest) (*proto.ControlResponse, error) {
	reply := &proto.ControlResponse{TimestampMs: time.Now().UnixMilli()}
	if r.GetCommand() == proto.ControlCommand_RELOAD {
		reply.Success, reply.Message = true, "the engine keeps nothing that could be reloaded"
		return reply, nil
	}
	t := s.session(r.GetSessionId())
	if t == nil {
		reply.Message = fmt.Sprintf("there is no session %.100q", r.GetSessionId())
		return reply, nil
	}
	switch r.GetCommand() {
	case proto.ControlCommand_PAUSE:
		t.pause()
	case proto.ControlCommand_RESUME:
		t.resume()
	case proto.ControlCommand_STOP:
		t.stop()
	default:
		reply.Message = fmt.Sprintf("there is no command %d", r.GetCommand())
		return reply, nil
	}
	reply.Success = true
	return reply, nil
}

// ListModels lists the engine's models.
func (s *Server) ListModels(context.Context, *proto.ListModelsRequest) (*proto.ListModelsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &proto.ListModelsResponse{}
	for _, m := range s.engine.Models() {
		reply.Models = append(reply.Models, &proto.ModelInfo{
			ModelId: m.ID, Family: m.Family, IsLoaded: s.loaded[m.ID], Languages: m.Languages,
		})
	}
	return reply, nil
}

// LoadModel makes a model resident.
func (s *Server) LoadModel(_ context.Context, r *proto.LoadModelRequest) (*proto.LoadModelResponse, error) {
	began := time.Now()
	if !s.hasModel(r.GetModelId()) {
		return &proto.LoadModelResponse{Message: fmt.Sprintf("there is no model %.100q", r.GetModelId())}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded[r.GetModelId()] = true
	return &proto.LoadModelResponse{Success: true, LoadDurationMs: time.Since(began).Milliseconds()}, nil
}

// UnloadModel makes a model no longer resident; a session that asks for it
// loads it again.
func (s *Server) UnloadModel(_ context.Context, r *proto.UnloadModelRequest) (*proto.UnloadModelResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded[r.GetModelId()] {
		return &proto.UnloadModelResponse{Message: fmt.Sprintf("the model %.100q is not loaded", r.GetModelId())}, nil
	}
	delete(s.loaded, r.GetModelId())
	return &proto.UnloadModelResponse{Success: true}, nil
}

// GetCapabilities says what the worker can and how it is doing.
func (s *Server) GetCapabilities(context.Context, *proto.GetCapabilitiesRequest) (*proto.GetCapabilitiesResponse, error) {
	var languages []string
	for _, m := range s.engine.Models() {
		languages = append(languages, m.Languages...)
	}
	slices.Sort(languages)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &proto.GetCapabilitiesResponse{
		Capabilities: &proto.Capabilities{
			Streaming: true, CpuOk: true, SessionControl: true,
			Languages:             slices.Compact(languages),
			MaxConcurrentSessions: int32(s.maxSessions),
		},
		ResidentModels: slices.Sorted(maps.Keys(s.loaded)),
		Metrics: map[string]float64{
			"rtf": s.rtf, "queue_depth": float64(s.waiting), "sessions": float64(len(s.sessions)),
		},
	}, nil
}

func (s *Server) hasModel(id string) bool {
	return slices.ContainsFunc(s.engine.Models(), func(m Model) bool { return m.ID == id })
}

func (s *Server) session(id string) *ttsSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// spoke takes note of a sentence: how long the engine took for how much audio.
func (s *Server) spoke(took, audio time.Duration) {
	if audio == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ratio := took.Seconds() / audio.Seconds()
	if s.rtf == 0 {
		s.rtf = ratio
		return
	}
	s.rtf += (ratio - s.rtf) / 8
}

func (s *Server) queued(n int) {
	s.mu.Lock()
	s.waiting += n
	s.mu.Unlock()
}
