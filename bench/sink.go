package bench

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// sink is an OTLP endpoint that takes everything and looks at nothing.
type sink struct {
	addr   string
	server *grpc.Server
	served chan struct{}
}

func startSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{ln.Addr().String(), grpc.NewServer(grpc.ForceServerCodecV2(nothing{}), grpc.MaxRecvMsgSize(64<<20),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(nil); err != nil {
				return err
			}
			return stream.SendMsg(nil) // an answer without a field: all was taken
		})), make(chan struct{})}
	go func() {
		defer close(s.served)
		_ = s.server.Serve(ln) // until it is stopped
	}()
	return s, nil
}

func (s *sink) stop() {
	s.server.Stop()
	<-s.served
}

// nothing is a codec of messages that nobody reads.
type nothing struct{}

var _ encoding.CodecV2 = nothing{}

// Marshal returns a message without a field.
func (nothing) Marshal(any) (mem.BufferSlice, error) { return nil, nil }

// Unmarshal looks at nothing.
func (nothing) Unmarshal(mem.BufferSlice, any) error { return nil }

// Name is that of the codec it stands in for.
func (nothing) Name() string { return "proto" }
