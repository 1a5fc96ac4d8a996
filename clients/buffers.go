package clients

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// bufferPool is memory for what gRPC reads. Unlike gRPC's own it does not clear
// what it hands out, which took a twentieth of the edge's time: all of a buffer
// is read into before anybody looks at it.
type bufferPool struct{ tiers [len(bufferSizes)]sync.Pool }

// bufferSizes fit a frame of audio with what comes with it, in a size that Go's
// allocator has, and HTTP/2's frames.
var bufferSizes = [...]int{2304, 4 << 10, 16 << 10, 64 << 10}

// buffers are shared by all connections.
var buffers bufferPool

var _ mem.BufferPool = (*bufferPool)(nil)

// Get returns a buffer of the length, in which may be anything.
func (p *bufferPool) Get(length int) *[]byte {
	for i, size := range bufferSizes {
		if length > size {
			continue
		}
		b, ok := p.tiers[i].Get().(*[]byte)
		if !ok {
			fresh := make([]byte, size)
			b = &fresh
		}
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length)
	return &b
}

// Put takes a buffer back, which from then on is another's.
func (p *bufferPool) Put(b *[]byte) {
	for i, size := range bufferSizes {
		if cap(*b) == size {
			p.tiers[i].Put(b)
			return
		}
	}
}
