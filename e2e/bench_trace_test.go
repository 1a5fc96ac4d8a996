package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// BenchmarkTracing weighs what tracing costs the edge: its CPU time a frame,
// by the kernel's count, with one utterance in a hundred traced and with all.
// The reference is an edge with tracing off that runs beside it, each with two
// hundred paced sessions and a worker of its own, so that what else the machine
// does meets both alike; the ratios are of what all runs together cost, and what a
// single run's says of the next is printed as their spread.
func BenchmarkTracing(b *testing.B) {
	otlp := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + startSink(b), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}
	for _, kind := range []struct {
		name string
		env  []string
	}{
		{"one-percent", append([]string{"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01"}, otlp...)},
		{"on", otlp},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var total, reference float64
			low, high, run := math.Inf(1), 0.0, 0
			for ; b.Loop(); run++ {
				off, traced := costsSideBySide(b, run, kind.env)
				total, reference = total+traced, reference+off
				low, high = min(low, traced/off), max(high, traced/off)
			}
			b.ReportMetric(reference/float64(run), "off-µs/frame")
			b.ReportMetric(total/reference, "ratio")
			b.ReportMetric(low, "ratio-least")
			b.ReportMetric(high, "ratio-most")
			b.ReportMetric(0, "ns/op") // it says nothing here
		})
	}
}

// costsSideBySide measures an edge that does not trace and one of the environment,
// at the same time.
func costsSideBySide(b *testing.B, run int, env []string) (off, traced float64) {
	b.Helper()
	const sessions, lasting = 200, 5 * time.Second
	var measuring sync.WaitGroup
	costs, envs := [2]float64{}, [2][]string{nil, env}
	for i := range envs {
		i = (i + run) % len(envs) // who begins does not always
		s := startFastSystem(b)
		worker := s.worker("w1", envs[i]...)
		edge, url := s.edge(append(envs[i], "MAX_CONNECTIONS=1000")...)
		edge.await(1, "worker is healthy")
		defer s.redis.kill()
		defer worker.stop()
		defer edge.stop()
		measuring.Go(func() { costs[i] = edge.costPerFrame(b, url, sessions, lasting) })
	}
	measuring.Wait()
	return costs[0], costs[1]
}

// costPerFrame is the process's CPU time, in microseconds, for each frame that
// so many paced sessions hear in the given time, once each has heard a hundred.
func (p *process) costPerFrame(b *testing.B, url string, sessions int, lasting time.Duration) float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var frames atomic.Int64
	var listening, speaking sync.WaitGroup
	speaking.Add(sessions)
	for range sessions {
		listening.Go(func() {
			ws, _, err := websocket.Dial(ctx, url, nil)
			if err != nil {
				b.Error(err)
				speaking.Done()
				return
			}
			defer func() { _ = ws.CloseNow() }()
			ws.SetReadLimit(1 << 20)
			text := strings.Repeat("a", 1000) // a minute, more than is heard
			if err := ws.Write(ctx, websocket.MessageText, []byte(`{"type":"text","text":"`+text+`"}`)); err != nil {
				b.Error(err)
			}
			for n := 0; ; n++ {
				if _, _, err := ws.Read(ctx); err != nil {
					return
				}
				if n == 100 { // memory that is used again and again is there
					speaking.Done()
				}
				frames.Add(1)
			}
		})
	}
	speaking.Wait()
	before, framesBefore := p.cpu(b), frames.Load()
	time.Sleep(lasting) // the measurement
	cost := float64(p.cpu(b)-before) / float64(time.Microsecond) / float64(frames.Load()-framesBefore)
	cancel()
	listening.Wait()
	return cost
}

// cpu is the time that all threads of the process have run.
func (p *process) cpu(b *testing.B) (total time.Duration) {
	b.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		b.Skip("the kernel does not count threads' time here")
	}
	for _, path := range tasks {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has just ended
		}
		var ran int64
		if _, err := fmt.Fscan(bytes.NewReader(data), &ran); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ran)
	}
	return total
}

// sink is an OTLP endpoint that takes everything and looks at nothing: what a
// collector does with spans is not to warm or cool the caches that the edge has
// on the same machine.
type sink struct {
	coltracepb.UnimplementedTraceServiceServer
}

func (sink) Export(context.Context, *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// unread is a codec that leaves messages as bytes, and answers with none.
type unread struct{}

func (unread) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (unread) Unmarshal(mem.BufferSlice, any) error { return nil }
func (unread) Name() string                         { return "" }

func startSink(b *testing.B) (endpoint string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(unread{}))
	coltracepb.RegisterTraceServiceServer(server, sink{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	b.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}
