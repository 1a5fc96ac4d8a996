package app

import (
	"bytes"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/voxedge/voxedge/doctor"
)

const (
	hugePages = "/sys/kernel/mm/transparent_hugepage/"
	// hugePage is how large one may be, in bytes. With arm64's pages of 64 KB one would
	// be half a gigabyte.
	hugePage = 2 << 20
	// runtimeRoom is what the runtime maps besides a block, at most.
	runtimeRoom = 132 << 20
)

var errHugePages = errors.New("the kernel gives no huge pages, or none of 2 MB")

// adviseHeap has the kernel back so many bytes of the heap, as it grows, with huge
// pages, but of no more than a quarter of the memory there is. What hundreds of
// sessions have in hand lies on so many pages of 4 KB that to look up where they are
// costs as much as most else that the edge does.
func adviseHeap(size uint64) error {
	enabled, _ := os.ReadFile(hugePages + "enabled")
	pageSize, _ := os.ReadFile(hugePages + "hpage_pmd_size")
	if n, err := strconv.Atoi(string(bytes.TrimSpace(pageSize))); err != nil || n > hugePage || bytes.Contains(enabled, []byte("[never]")) {
		return errHugePages
	}
	memory, err := memoryThereIs()
	if err != nil {
		return err
	}
	n := int(min(size, memory/4)) //nolint:gosec // less than there is
	// Where the runtime cannot have so much it ends the process, so ask for it first.
	trial, err := unix.Mmap(-1, 0, n+runtimeRoom, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if err := unix.Munmap(trial); err != nil {
		return err
	}
	var heap strings.Builder // whose memory is not cleared, and so not touched
	heap.Grow(n)
	heap.WriteByte(0)
	block := unsafe.Slice(unsafe.StringData(heap.String()), heap.Cap())
	toPage := -int(uintptr(unsafe.Pointer(&block[0]))) & (os.Getpagesize() - 1)
	err = unix.Madvise(block[toPage:], unix.MADV_HUGEPAGE)
	heap.Reset()
	debug.FreeOSMemory() // the addresses are free again, and the advice stays with them
	return err
}

// memoryThereIs is the machine's, or what the container or GOMEMLIMIT lets the
// process have of it, in bytes.
func memoryThereIs() (uint64, error) {
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return 0, err
	}
	memory := min(uint64(machine.Totalram)*uint64(machine.Unit), uint64(debug.SetMemoryLimit(-1))) //nolint:gosec,unconvert // not negative; uint32 on some
	if limit := doctor.MemoryLimit(); limit > 0 {
		memory = min(memory, limit)
	}
	return memory, nil
}
