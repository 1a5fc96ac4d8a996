package telemetry

import (
	"bytes"
	"slices"
	"sync/atomic"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is built on
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The numbers of OTLP's fields around the spans.
const (
	requestResourceSpans    = 1
	resourceSpansScopeSpans = 2
)

// encoded wraps spans that are bytes already, which protobuf keeps as they
// are: fields that it does not know.
func encoded(scope *commonpb.InstrumentationScope, spans []byte) *tracepb.ScopeSpans {
	s := &tracepb.ScopeSpans{Scope: scope}
	s.ProtoReflect().SetUnknown(spans)
	return s
}

// cut takes scopes with up to so many bytes of spans, or else one span, off the
// front, and returns how many bytes they are.
func cut(scopes []*tracepb.ScopeSpans, limit int) (first, rest []*tracepb.ScopeSpans, size int) {
	for _, s := range scopes {
		size += len(s.ProtoReflect().GetUnknown())
	}
	if size <= limit {
		return scopes, nil, size
	}
	size = 0
	for i, s := range scopes {
		spans := s.ProtoReflect().GetUnknown()
		at := 0
		for at < len(spans) {
			span := protowire.ConsumeFieldValue(0, protowire.BytesType, spans[at+1:]) + 1
			if size+at+span > limit && size+at > 0 {
				break
			}
			at += span
		}
		size += at
		if at < len(spans) {
			if first = slices.Clone(scopes[:i]); at > 0 {
				first = append(first, encoded(s.GetScope(), spans[:at]))
			}
			return first, append([]*tracepb.ScopeSpans{encoded(s.GetScope(), spans[at:])}, scopes[i+1:]...), size
		}
	}
	return scopes, nil, size
}

// count returns how many spans there are.
func count(scopes []*tracepb.ScopeSpans) (n int) {
	for _, s := range scopes {
		for spans := s.ProtoReflect().GetUnknown(); len(spans) > 0; n++ {
			spans = spans[1+protowire.ConsumeFieldValue(0, protowire.BytesType, spans[1:]):]
		}
	}
	return n
}

// requestCodec is gRPC's own codec, but that encoded spans go to the socket from
// where they lie: a second's are megabytes, and were copied to other memory first.
type requestCodec struct {
	encoding.CodecV2
	lent *loans
}

func newRequestCodec(lent *loans) requestCodec {
	return requestCodec{encoding.GetCodecV2("proto"), lent}
}

// Name leaves the content type as it is without a codec of one's own.
func (requestCodec) Name() string { return "" }

// Marshal returns what CodecV2 would, in pieces.
func (c requestCodec) Marshal(v any) (mem.BufferSlice, error) {
	request, ok := v.(*coltracepb.ExportTraceServiceRequest)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	var out mem.BufferSlice
	for _, r := range request.GetResourceSpans() {
		head, err := proto.Marshal(&tracepb.ResourceSpans{Resource: r.GetResource(), SchemaUrl: r.GetSchemaUrl()})
		if err != nil {
			return nil, err
		}
		size := len(head)
		var scopes [][]byte // what stands before the spans of each
		for _, s := range r.GetScopeSpans() {
			scope, err := proto.Marshal(&tracepb.ScopeSpans{Scope: s.GetScope(), Spans: s.GetSpans(), SchemaUrl: s.GetSchemaUrl()})
			if err != nil {
				return nil, err
			}
			spans := s.ProtoReflect().GetUnknown()
			before := protowire.AppendTag(nil, resourceSpansScopeSpans, protowire.BytesType)
			before = append(protowire.AppendVarint(before, uint64(len(scope)+len(spans))), scope...)
			scopes = append(scopes, before)
			size += len(before) + len(spans)
		}
		begin := protowire.AppendTag(nil, requestResourceSpans, protowire.BytesType)
		begin = append(protowire.AppendVarint(begin, uint64(size)), head...) //nolint:gosec // a length
		out = append(out, mem.SliceBuffer(begin))
		for i, s := range r.GetScopeSpans() {
			out = append(out, mem.SliceBuffer(scopes[i]), c.lent.lend(s.ProtoReflect().GetUnknown()))
		}
	}
	return out, nil
}

// loans counts the pieces of memory that gRPC may still read. It takes them back
// where gRPC takes a pool of buffers to be.
type loans struct{ n atomic.Int64 }

var _ mem.BufferPool = (*loans)(nil)

func (l *loans) lend(b []byte) mem.Buffer {
	if mem.IsBelowBufferPoolingThreshold(cap(b)) { // gRPC does not say when it is done with so little
		return mem.SliceBuffer(bytes.Clone(b))
	}
	l.n.Add(1)
	return mem.NewBuffer(&b, l)
}

// Put takes back what was lent.
func (l *loans) Put(*[]byte) { l.n.Add(-1) }

// Get returns new memory.
func (*loans) Get(length int) *[]byte {
	b := make([]byte, length)
	return &b
}

// outstanding reports whether anything is lent.
func (l *loans) outstanding() bool { return l.n.Load() > 0 }
