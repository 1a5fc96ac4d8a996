package clients

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/worker"
)

// reference is the reference worker on a port of this machine.
type reference struct {
	server *worker.Server
	addr   string
	stop   func()
}

func startReference(t *testing.T, engine worker.Engine) *reference {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := worker.NewServer(engine, 0, nil, slog.New(slog.DiscardHandler))
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	r := &reference{server: server, addr: ln.Addr().String()}
	r.stop = sync.OnceFunc(func() {
		g.Stop()
		<-served
		server.Wait()
	})
	t.Cleanup(r.stop)
	return r
}

func (r *reference) announcement() Announcement {
	return Announcement{Name: "reference", Addr: r.addr}
}

// sessions is how many sessions the worker says it has.
func (r *reference) sessions(t *testing.T) float64 {
	t.Helper()
	reply, err := r.server.GetCapabilities(context.Background(), &proto.GetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetMetrics()["sessions"]
}
