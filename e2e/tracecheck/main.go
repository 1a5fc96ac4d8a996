// Command tracecheck is what the test of traces at full load cannot do under
// the race detector, which would be the bottleneck: an OTLP endpoint that
// counts, and the clients whose frames it must have counted.
//
// It prints its endpoint, and waits on standard input for a line with the URL
// of an edge that sends its traces there. Then its sessions speak, and it prints
// how many are done. After one more line, with which the caller says that
// edge and worker have ended, it prints what is missing and exits.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// patience is for the slowest of machines.
const patience = 5 * time.Minute

var (
	sessions   = flag.Int("sessions", 500, "that speak at once")
	characters = flag.Int("characters", 500, "that each speaks")
	away       = flag.Duration("away", 5*time.Second, "how long the endpoint answers nothing, in the middle")
	after      = flag.Duration("after", 10*time.Second, "when it goes away")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c := &collector{counts: map[spanKey]map[uint64]bool{}}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	fmt.Printf("http://%s\n", ln.Addr())
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return errors.New("no URL came")
	}
	url := in.Text()

	spoken := make([]utterance, *sessions)
	failures := make([]error, *sessions)
	var talking sync.WaitGroup
	for i := range spoken {
		talking.Go(func() { spoken[i], failures[i] = speak(url) })
	}
	time.Sleep(*after) // the fault comes in the middle
	c.hold(*away)
	talking.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	fmt.Printf("%d sessions have spoken\n", len(spoken))
	if !in.Scan() {
		return errors.New("nobody said that edge and worker have ended")
	}
	server.Stop()
	missing := c.missing(spoken)
	if len(missing) == 0 {
		fmt.Println("nothing is missing")
	}
	for _, m := range missing {
		fmt.Println(m)
	}
	return <-served
}

// utterance is what a client heard.
type utterance struct {
	trace  string
	frames uint64
}

func speak(url string) (u utterance, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"voxedge.binary.v1"}})
	if err != nil {
		return u, err
	}
	defer func() { _ = ws.CloseNow() }()
	text, err := json.Marshal(map[string]string{"type": "text", "text": strings.Repeat("a", *characters)})
	if err != nil {
		return u, err
	}
	if err := ws.Write(ctx, websocket.MessageText, text); err != nil {
		return u, err
	}
	for {
		kind, data, err := ws.Read(ctx)
		if err != nil {
			return u, fmt.Errorf("after frame %d: %w", u.frames, err)
		}
		if kind == websocket.MessageBinary {
			if u.frames++; binary.LittleEndian.Uint64(data[8:]) != u.frames {
				return u, fmt.Errorf("frame %d came as the %d", binary.LittleEndian.Uint64(data[8:]), u.frames)
			}
			continue
		}
		var m struct {
			Type    string
			TraceID string `json:"trace_id"`
			Reason  string
		}
		if err := json.Unmarshal(data, &m); err != nil {
			return u, err
		}
		if m.Type == "utterance_end" {
			u.trace = m.TraceID
			if m.Reason != "completed" {
				return u, fmt.Errorf("the utterance ended: %s", data)
			}
			return u, nil
		}
	}
}

type spanKey struct {
	trace [16]byte
	name  string
}

// collector counts the frames of each trace's spans.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer

	mu     sync.Mutex
	stall  chan struct{} // not nil: nothing is answered until it is closed
	counts map[spanKey]map[uint64]bool
}

// Export takes spans, each as often as it is sent.
func (c *collector) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	stall := c.stall
	c.mu.Unlock()
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				c.take(span)
			}
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (c *collector) take(span *tracepb.Span) {
	for _, a := range span.GetAttributes() {
		if a.GetKey() == "voxedge.frame.sequence" {
			key := spanKey{[16]byte(span.GetTraceId()), span.GetName()}
			if c.counts[key] == nil {
				c.counts[key] = map[uint64]bool{}
			}
			c.counts[key][uint64(a.GetValue().GetIntValue())] = true //nolint:gosec // a count
		}
	}
}

func (c *collector) hold(d time.Duration) {
	stall := make(chan struct{})
	c.mu.Lock()
	c.stall = stall
	c.mu.Unlock()
	time.Sleep(d) // it is how long the fault lasts, not a wait for something
	c.mu.Lock()
	c.stall = nil
	c.mu.Unlock()
	close(stall)
}

func (c *collector) missing(spoken []utterance) (missing []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range spoken {
		id, err := hex.DecodeString(u.trace)
		if err != nil || len(id) != 16 {
			missing = append(missing, fmt.Sprintf("an utterance has the trace %q", u.trace))
			continue
		}
		for _, name := range []string{"frame.synthesize", "frame.forward"} {
			if n := len(c.counts[spanKey{[16]byte(id), name}]); n != int(u.frames) { //nolint:gosec // a count
				missing = append(missing, fmt.Sprintf("trace %s has %d spans %s for %d frames", u.trace, n, name, u.frames))
			}
		}
	}
	return missing
}
