package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/voxedge/voxedge/proto"
)

// A worker that is told to leave says so to its edges, and ends what it has
// begun.
func TestWorkerLetsARunningUtteranceEnd(t *testing.T) {
	w, err := newReferenceWorker(settings(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, "the worker", w.run)
	t.Cleanup(stop)
	conn, err := grpc.NewClient("passthrough:///"+w.ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tts := proto.NewTTSServiceClient(conn)
	if _, err := tts.StartSession(ctx, &proto.StartSessionRequest{SessionId: "a"}); err != nil {
		t.Fatal(err)
	}
	stream, err := tts.Synthesize(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(text string, final bool) {
		t.Helper()
		if err := stream.Send(&proto.TextChunk{SessionId: "a", Text: text, IsFinal: final}); err != nil {
			t.Fatal(err)
		}
	}
	send("Hello. T", false)
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	sound := first.GetAudioData()

	watching, unwatch := context.WithCancel(ctx)
	watch, err := healthpb.NewHealthClient(conn).Watch(watching, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	awaitStatus := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if reply, err := watch.Recv(); err != nil || reply.GetStatus() != want {
			t.Fatalf("its health is %s, %v; want %s", reply.GetStatus(), err, want)
		}
	}
	awaitStatus(healthpb.HealthCheckResponse_SERVING)
	go stop()
	awaitStatus(healthpb.HealthCheckResponse_NOT_SERVING)
	unwatch() // gRPC's graceful stop waits for it

	send("o you.", true)
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the utterance was cut off: %v", err)
		}
		sound = append(sound, frame.GetAudioData()...)
	}
	checkSound(t, sound, tone(440, len("Hello. To you.")))
	stop()
}
