package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// What the heap grows into after the advice is in mappings that are to have huge
// pages ("hg" in the kernel's words).
func TestHeapGrowsIntoHugePages(t *testing.T) {
	switch err := adviseHeap(256 << 20); {
	case errors.Is(err, errHugePages):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	const pieces, size = 256, 256 << 10
	grown := make([][]byte, pieces)
	for i := range grown {
		grown[i] = make([]byte, size)
	}
	advised := advisedMappings(t)
	n := 0
	for _, piece := range grown {
		at := uint64(uintptr(unsafe.Pointer(&piece[0])))
		for _, m := range advised {
			if m[0] <= at && at < m[1] {
				n++
			}
		}
	}
	if n < pieces/2 { // some may fit where the heap was already
		t.Errorf("%d of %d new blocks are where there are to be huge pages, want most", n, pieces)
	}
}

// advisedMappings are the process's mappings that are to have huge pages.
func advisedMappings(t *testing.T) (advised [][2]uint64) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var last [2]uint64
	for line := range strings.Lines(string(maps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if strings.Contains(flags, " hg") {
				advised = append(advised, last)
			}
			continue
		}
		var begin, end uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &begin, &end); n == 2 {
			last = [2]uint64{begin, end}
		}
	}
	return advised
}
