package clients

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metrics "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// calls makes the spans of the calls to a worker that belong to a client. They
// are otelgrpc's, told here of a call's begin and end: as gRPC's own stats
// handler it would be told of every frame besides, an allocation each.
type calls struct{ handler stats.Handler } // nil: no traces

func newCalls(tracing trace.TracerProvider, addr string) calls {
	if tracing == nil {
		return calls{}
	}
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return calls{otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(tracing), otelgrpc.WithMeterProvider(metrics.NewMeterProvider()),
		otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithSpanAttributes(semconv.ServerAddress(host), semconv.ServerPort(n)))}
}

// errLeft is how gRPC ends a call that the edge leaves.
var errLeft = status.Error(codes.Canceled, "the edge has left the call")

// begin returns the context for a call, and what is to be told how it ended:
// nil and io.EOF are well.
func (c calls) begin(ctx context.Context, method string) (context.Context, func(error)) {
	if c.handler == nil {
		return ctx, func(error) {}
	}
	began := time.Now()
	ctx = c.handler.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: method})
	c.handler.HandleRPC(ctx, &stats.Begin{Client: true, BeginTime: began})
	return ctx, func(err error) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		c.handler.HandleRPC(ctx, &stats.End{Client: true, BeginTime: began, EndTime: time.Now(), Error: err})
	}
}
