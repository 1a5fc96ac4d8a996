package clients

import (
	"sync"
	"testing"
)

// A buffer that is given back is not looked at again: the race detector sees it
// in others' hands.
func TestBuffersGivenBackAreAnothers(t *testing.T) {
	var pool bufferPool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 2_000 {
				length := i * 37 % (bufferSizes[len(bufferSizes)-1] + 1000)
				b := pool.Get(length)
				if len(*b) != length {
					t.Errorf("a buffer of %d bytes, asked for %d", len(*b), length)
				}
				for j := range min(length, 16) {
					(*b)[j] = byte(i)
				}
				pool.Put(b)
			}
		})
	}
	all.Wait()
}
