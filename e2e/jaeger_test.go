package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/worker"
)

// jaeger is a real Jaeger with its memory for storage.
type jaeger struct {
	t               testing.TB
	grpc, http, api string
}

func startJaeger(t testing.TB) *jaeger {
	t.Helper()
	path := os.Getenv("JAEGER")
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("JAEGER is not set; .ci/run builds one")
		}
		t.Skip("JAEGER names no Jaeger: JAEGER=$(.ci/jaeger) builds one")
	}
	ports := map[string]int{}
	arg := func(name string) string {
		ports[name] = freePort(t)
		return fmt.Sprintf("--%s=127.0.0.1:%d", name, ports[name])
	}
	cmd := exec.Command(path, arg("collector.otlp.grpc.host-port"), arg("collector.otlp.http.host-port"), arg("query.http-server.host-port"),
		arg("query.grpc-server.host-port"), arg("collector.grpc-server.host-port"), arg("collector.http-server.host-port"),
		arg("admin.http.host-port"), "--collector.queue-size=100000")
	cmd.Env = append(os.Environ(), "SPAN_STORAGE_TYPE=memory", "OTEL_TRACES_SAMPLER=always_off")
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("--- jaeger said:\n%s", log)
		}
	})
	at := func(name string) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[name]) }
	j := &jaeger{t: t, grpc: at("collector.otlp.grpc.host-port"), http: at("collector.otlp.http.host-port"), api: at("query.http-server.host-port")}
	awaitHTTP(t, at("admin.http.host-port"))
	return j
}

// awaitHTTP waits for a server that tells no one when it is up.
func awaitHTTP(t testing.TB, url string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if response, err := http.Get(url); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing answers at %s", url)
		}
	}
}

// jaegerSpan is a span as Jaeger's API shows it.
type jaegerSpan struct {
	SpanID     string
	Operation  string `json:"operationName"`
	References []struct{ RefType, TraceID, SpanID string }
	Start      int64 `json:"startTime"` // microseconds
	Duration   int64
	Tags       []struct {
		Key   string
		Value any
	}
	Logs []struct {
		Timestamp int64
		Fields    []struct {
			Key   string
			Value any
		}
	}
	Process  string `json:"processID"`
	Warnings []string
}

func (s *jaegerSpan) tag(key string) any {
	for _, tag := range s.Tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return nil
}

func (s *jaegerSpan) parent() string {
	for _, r := range s.References {
		if r.RefType == "CHILD_OF" {
			return r.SpanID
		}
	}
	return ""
}

// trace returns the spans of a trace by name, once there are so many.
func (j *jaeger) trace(id string, spans int) map[string][]*jaegerSpan {
	j.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		all, services := j.read(id)
		if len(all) >= spans {
			byName := map[string][]*jaegerSpan{}
			for _, s := range all {
				name := s.Operation
				if strings.HasPrefix(name, "tts.") {
					name += " at " + services[s.Process]
				}
				byName[name] = append(byName[name], s)
			}
			return byName
		}
		if time.Now().After(deadline) {
			j.t.Fatalf("%d of %d spans came to Jaeger", len(all), spans)
		}
	}
}

func (j *jaeger) read(id string) (spans []*jaegerSpan, services map[string]string) {
	j.t.Helper()
	response, err := http.Get(j.api + "/api/traces/" + id)
	if err != nil {
		j.t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		Data []struct {
			Spans     []*jaegerSpan
			Processes map[string]struct {
				Service string `json:"serviceName"`
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		j.t.Fatal(err)
	}
	if len(body.Data) == 0 {
		return nil, nil
	}
	services = map[string]string{}
	for id, p := range body.Data[0].Processes {
		services[id] = p.Service
	}
	return body.Data[0].Spans, services
}

// A client says in its own trace what it wants to hear, tells when it heard
// it, and everything is found in Jaeger: as many spans as frames at every
// stage, each under the one before, with times in their order.
func TestJaegerShowsEveryFrame(t *testing.T) {
	j := startJaeger(t)
	s := startSystem(t)
	s.worker("w1", "OTEL_EXPORTER_OTLP_ENDPOINT="+j.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	edge, url := s.edge("OTEL_EXPORTER_OTLP_ENDPOINT=" + j.http)
	edge.await(1, "worker is healthy")
	const given = "0af7651916cd43dd8448eb211c80319c"
	c := connect(t, url+"/?traceparent=00-"+given+"-b7ad6b7169203331-01")
	if !strings.Contains(c.start.Traceparent, given) {
		t.Errorf("the client's trace is not given back: %+v", c.start)
	}
	text := "every frame of this"
	c.say(text)
	frames := c.hearAndTell()
	if want := len(text) * worker.ToneFramesPerRune; frames.n != want {
		t.Fatalf("%d frames, want %d", frames.n, want)
	}
	// utterance, two calls at two ends, and three stages of each frame
	spans := j.trace(frames.end.TraceID, 1+4+3*frames.n)
	counts := map[string]int{}
	byID := map[string]*jaegerSpan{}
	for name, all := range spans {
		counts[name] = len(all)
		for _, span := range all {
			byID[span.SpanID] = span
			if len(span.Warnings) > 0 && strings.Contains(fmt.Sprint(span.Warnings), "Negative") {
				t.Errorf("%s: %q", name, span.Warnings)
			}
		}
	}
	want := map[string]int{
		"utterance": 1, "frame.synthesize": frames.n, "frame.forward": frames.n, "frame.play": frames.n,
		"tts.TTSService/Synthesize at voxedge": 1, "tts.TTSService/Synthesize at voxedge-worker": 1,
		"tts.TTSService/StartSession at voxedge": 1, "tts.TTSService/StartSession at voxedge-worker": 1,
	}
	if !maps.Equal(counts, want) {
		t.Fatalf("spans: %v, want %v", counts, want)
	}
	call := spans["tts.TTSService/Synthesize at voxedge"][0]
	if spans["tts.TTSService/Synthesize at voxedge-worker"][0].parent() != call.SpanID {
		t.Error("the worker's call is not under the edge's")
	}
	parents := map[string]string{"frame.play": "frame.forward", "frame.forward": "frame.synthesize"}
	for _, name := range []string{"frame.synthesize", "frame.forward", "frame.play"} {
		slices.SortFunc(spans[name], func(a, b *jaegerSpan) int {
			return int(a.tag("voxedge.frame.sequence").(float64)) - int(b.tag("voxedge.frame.sequence").(float64))
		})
		for i, span := range spans[name] {
			if span.tag("voxedge.frame.sequence") != float64(i+1) {
				t.Fatalf("%s %d is of frame %v", name, i+1, span.tag("voxedge.frame.sequence"))
			}
			up := byID[span.parent()]
			switch {
			case up == nil:
				t.Fatalf("%s %d is an orphan", name, i+1)
			case name == "frame.synthesize":
				if up != call {
					t.Fatalf("%s %d is under %s", name, i+1, up.Operation)
				}
			case up.Operation != parents[name] || up.tag("voxedge.frame.sequence") != float64(i+1):
				t.Fatalf("%s %d is under %s %v", name, i+1, up.Operation, up.tag("voxedge.frame.sequence"))
			case span.Start < up.Start+up.Duration-1: // Jaeger rounds to microseconds
				t.Fatalf("%s %d began %d µs before the stage before it was over", name, i+1, up.Start+up.Duration-span.Start)
			}
			last := span.Start
			for _, event := range span.Logs {
				if event.Timestamp < last {
					t.Fatalf("%s %d: its events are out of order: %+v", name, i+1, span.Logs)
				}
				last = event.Timestamp
			}
		}
	}
	if root := spans["utterance"][0]; root.parent() != "" || root.tag("voxedge.utterance.frames") != float64(frames.n) || root.tag("voxedge.worker") != "w1" {
		t.Errorf("the root is %+v", root)
	}
	opening, _ := j.read(given)
	if len(opening) != 1 || opening[0].Operation != "session" || opening[0].tag("session.id") != c.start.SessionID {
		t.Errorf("in the client's trace there is %+v", opening)
	}
	line := edge.await(1, "session opened", "session_id", c.start.SessionID)
	if line["trace_id"] != given {
		t.Errorf("the log says %v", line)
	}
}

type heardFrames struct {
	n   int
	end message
}

// hearAndTell hears an utterance and sends receipts, by a clock that is two
// seconds ahead of everyone else's.
func (c *client) hearAndTell() (h heardFrames) {
	c.t.Helper()
	var receipts [][3]float64
	for {
		m := c.next()
		switch m.Type {
		case "audio":
			h.n++
			at := float64(time.Now().Add(2*time.Second).UnixMicro()) / 1000
			receipts = append(receipts, [3]float64{float64(m.Sequence), at, at + 20})
		case "utterance_end":
			h.end = m
			c.send(map[string]any{"type": "receipt", "frames": receipts})
			return h
		default:
			c.t.Fatalf("%+v", m)
		}
	}
}
