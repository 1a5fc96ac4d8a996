package worker

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
)

// choir has two models, so that what is said of one can be told from the other.
type choir struct{ Tone }

func (choir) Models() []Model {
	return []Model{
		{ID: "alto", Family: "voice", Languages: []string{"en", "de"}},
		{ID: "bass", Family: "pipe", Languages: []string{"de", "fr"}},
	}
}

func (l *loopback) models() map[string]*proto.ModelInfo {
	l.t.Helper()
	reply, err := l.tts.ListModels(l.ctx, &proto.ListModelsRequest{})
	if err != nil {
		l.t.Fatal(err)
	}
	models := map[string]*proto.ModelInfo{}
	for _, m := range reply.GetModels() {
		models[m.GetModelId()] = m
	}
	return models
}

func (l *loopback) capabilities() *proto.GetCapabilitiesResponse {
	l.t.Helper()
	reply, err := l.tts.GetCapabilities(l.ctx, &proto.GetCapabilitiesRequest{})
	if err != nil {
		l.t.Fatal(err)
	}
	return reply
}

func TestListModels(t *testing.T) {
	l := startWorker(t, choir{}, 0)
	models := l.models()
	if len(models) != 2 {
		t.Fatalf("%d models are listed, want 2", len(models))
	}
	for _, want := range (choir{}).Models() {
		m := models[want.ID]
		if m.GetFamily() != want.Family || !slices.Equal(m.GetLanguages(), want.Languages) || !m.GetIsLoaded() {
			t.Errorf("%s is listed as family %q, languages %q, loaded %t", want.ID, m.GetFamily(), m.GetLanguages(), m.GetIsLoaded())
		}
	}
}

// What is loaded must be the same in every answer that says so: edges route by it.
func (l *loopback) checkLoaded(want ...string) {
	l.t.Helper()
	if got := l.capabilities().GetResidentModels(); !slices.Equal(got, want) {
		l.t.Errorf("resident are %q, want %q", got, want)
	}
	for id, m := range l.models() {
		if m.GetIsLoaded() != slices.Contains(want, id) {
			l.t.Errorf("ListModels says of %s that it is loaded: %t", id, m.GetIsLoaded())
		}
	}
}

func TestLoadAndUnloadModel(t *testing.T) {
	l := startWorker(t, choir{}, 0)
	load := func(id string) (bool, string) {
		t.Helper()
		reply, err := l.tts.LoadModel(l.ctx, &proto.LoadModelRequest{ModelId: id})
		if err != nil {
			t.Fatal(err)
		}
		return reply.GetSuccess(), reply.GetMessage()
	}
	unload := func(id string) (bool, string) {
		t.Helper()
		reply, err := l.tts.UnloadModel(l.ctx, &proto.UnloadModelRequest{ModelId: id})
		if err != nil {
			t.Fatal(err)
		}
		return reply.GetSuccess(), reply.GetMessage()
	}
	l.checkLoaded("alto", "bass")
	if ok, message := load("parrot"); ok || !strings.Contains(message, "parrot") {
		t.Errorf("LoadModel of an unknown model answers %t, %q", ok, message)
	}
	if ok, message := unload("parrot"); ok || !strings.Contains(message, "parrot") {
		t.Errorf("UnloadModel of an unknown model answers %t, %q", ok, message)
	}
	l.checkLoaded("alto", "bass")
	if ok, message := unload("alto"); !ok {
		t.Errorf("UnloadModel did not succeed: %s", message)
	}
	l.checkLoaded("bass")
	if ok, _ := unload("alto"); ok {
		t.Error("a model was unloaded twice")
	}
	if ok, message := load("alto"); !ok {
		t.Errorf("LoadModel did not succeed: %s", message)
	}
	l.checkLoaded("alto", "bass")

	unload("bass")
	if reply := l.startSession("a", "bass", nil); !reply.GetSuccess() {
		t.Errorf("a session with an unloaded model was refused: %s", reply.GetMessage())
	}
	l.checkLoaded("alto", "bass")
}

func TestGetCapabilities(t *testing.T) {
	l := startWorker(t, choir{}, 7)
	c := l.capabilities().GetCapabilities()
	if !c.GetStreaming() || !c.GetCpuOk() {
		t.Errorf("streaming %t, cpu_ok %t; want both", c.GetStreaming(), c.GetCpuOk())
	}
	// Only to a worker that says so does an edge send Control.
	if !c.GetSessionControl() {
		t.Error("session_control is not stated")
	}
	if c.GetMaxConcurrentSessions() != 7 {
		t.Errorf("max_concurrent_sessions is %d, want 7", c.GetMaxConcurrentSessions())
	}
	if want := []string{"de", "en", "fr"}; !slices.Equal(c.GetLanguages(), want) {
		t.Errorf("the languages are %q, want %q: each once", c.GetLanguages(), want)
	}
}

func TestMetricsSayHowTheWorkerIsDoing(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	metric := func(name string) float64 {
		t.Helper()
		value, ok := l.capabilities().GetMetrics()[name]
		if !ok {
			t.Fatalf("there is no metric %q", name)
		}
		return value
	}
	for _, name := range []string{"rtf", "queue_depth", "sessions"} {
		if value := metric(name); value != 0 {
			t.Errorf("%s of a new worker is %g", name, value)
		}
	}
	l.open("a", nil)
	l.open("b", nil)
	l.control("a", pause)
	s := l.speech("a")
	s.say(longText)
	// Nothing tells when the utterance has begun.
	l.until("queue_depth is 1", func() bool { return metric("queue_depth") == 1 })
	if sessions := metric("sessions"); sessions != 2 {
		t.Errorf("sessions is %g, want 2", sessions)
	}
	l.control("a", resume)
	s.rest()
	// The tone is made far faster than it is heard.
	if rtf := metric("rtf"); rtf <= 0 || rtf >= 1 {
		t.Errorf("rtf is %g, want above 0 and below 1", rtf)
	}
	if depth := metric("queue_depth"); depth != 0 {
		t.Errorf("queue_depth is %g after the utterance, want 0", depth)
	}
	l.endSession("a")
	if sessions := metric("sessions"); sessions != 1 {
		t.Errorf("sessions is %g after EndSession, want 1", sessions)
	}
}

func TestHealthFailsAfterDrain(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	health := healthpb.NewHealthClient(l.conn)
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	watch, err := health.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		reply, err := health.Check(l.ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if reply.GetStatus() != want {
			t.Errorf("Check says %s, want %s", reply.GetStatus(), want)
		}
		reply, err = watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.GetStatus() != want {
			t.Errorf("Watch says %s, want %s", reply.GetStatus(), want)
		}
	}
	check(healthpb.HealthCheckResponse_SERVING)
	l.open("a", nil)
	l.server.Drain()
	check(healthpb.HealthCheckResponse_NOT_SERVING)

	// What an edge has begun it may end.
	s := l.speech("a")
	s.say("last")
	checkUtterance(t, s.rest(), "a", toneHz, 0, 12)
}

func TestReflectionListsTheService(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	stream, err := reflectionpb.NewServerReflectionClient(l.conn).ServerReflectionInfo(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	request := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	reply, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var services []string
	for _, s := range reply.GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	for _, want := range []string{"tts.TTSService", "grpc.health.v1.Health"} {
		if !slices.Contains(services, want) {
			t.Errorf("reflection lists %q, not %s", services, want)
		}
	}
}

// An edge must live with workers that lack newer calls, and so tells a call
// that is missing from one that fails.
func TestUnknownCallIsUnimplemented(t *testing.T) {
	l := startWorker(t, Tone{}, 0)
	err := l.conn.Invoke(l.ctx, "/tts.TTSService/Sing", &proto.ListModelsRequest{}, &proto.ListModelsResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("the answer is %v, want Unimplemented", err)
	}
}
