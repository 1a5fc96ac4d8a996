package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/voxedge/voxedge/proto"
)

// BenchmarkColdStart times from the start of the process to the first
// connection it accepts. The reference is a Fiber server with nothing in it.
func BenchmarkColdStart(b *testing.B) {
	s := startFastSystem(b)
	empty := filepath.Join(b.TempDir(), "emptyfiber")
	if out, err := exec.Command("go", "build", "-o", empty, "./emptyfiber").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	var measured, reference []time.Duration
	for b.Loop() {
		port := freePort(b)
		began := time.Now()
		cmd := exec.Command(empty, fmt.Sprintf("127.0.0.1:%d", port))
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		accepted(b, port)
		reference = append(reference, time.Since(began))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		port = freePort(b)
		began = time.Now()
		edge := start(b, "edge", []string{"HOST=127.0.0.1", fmt.Sprint("PORT=", port), "HEALTH_PORT=0", "REDIS_URL=" + s.redis.url()}, "serve")
		accepted(b, port)
		measured = append(measured, time.Since(began))
		edge.stop()
	}
	report(b, measured, reference)
}

// accepted dials until the port accepts.
func accepted(b *testing.B, port int) {
	b.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = conn.Close()
			return
		}
		_, _ = unix.Select(0, nil, nil, nil, &unix.Timeval{Usec: 50}) // time.Sleep would take a millisecond
	}
	b.Fatal("nothing accepts")
}

// BenchmarkFirstAudio times from a text sent to its first frame received, over
// the edge. The reference asks the worker itself, over gRPC.
func BenchmarkFirstAudio(b *testing.B) {
	s := startFastSystem(b)
	port := freePort(b)
	s.worker("w1", fmt.Sprint("WORKER_PORT=", port))
	edge, url := s.edge("MAX_MESSAGES_PER_SECOND=0") // a fast machine says more than any client
	edge.await(1, "worker is healthy")
	conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	tts, ctx := proto.NewTTSServiceClient(conn), context.Background()
	if _, err := tts.StartSession(ctx, &proto.StartSessionRequest{SessionId: "bench"}); err != nil {
		b.Fatal(err)
	}
	c := connect(b, url+"/?pacing=none")
	c.say("a")
	c.hearUtterance(0)
	sequence := uint64(3)
	var measured, reference []time.Duration
	for b.Loop() {
		for range 50 {
			began := time.Now()
			stream, err := tts.Synthesize(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if err := stream.Send(&proto.TextChunk{SessionId: "bench", Text: "a", IsFinal: true, SequenceNumber: 1}); err != nil {
				b.Fatal(err)
			}
			_ = stream.CloseSend()
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
			reference = append(reference, time.Since(began))
			for err == nil {
				_, err = stream.Recv()
			}

			began = time.Now()
			c.say("a")
			c.next()
			measured = append(measured, time.Since(began))
			c.hearUtterance(sequence + 1)
			sequence += 3
		}
	}
	report(b, measured, reference)
}

// BenchmarkIdleMemory weighs a thousand connections that say nothing.
func BenchmarkIdleMemory(b *testing.B) {
	const connections = 1000
	s := startFastSystem(b)
	for b.Loop() {
		edge, url := s.edge("MAX_CONNECTIONS=2000")
		connect(b, url)
		before := edge.rssKB(b)
		var held []*client
		for range connections {
			held = append(held, connect(b, url))
		}
		b.ReportMetric(float64(edge.rssKB(b)-before)/connections, "KB/connection")
		for _, c := range held {
			_ = c.ws.CloseNow()
		}
	}
	b.ReportMetric(0, "ns/op")
}
