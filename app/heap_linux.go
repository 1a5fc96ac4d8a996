package app

import (
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// adviseHeap has the kernel back so many bytes of the heap, as it grows, with huge
// pages, but of no more than a quarter of the machine's memory. What hundreds of
// sessions have in hand lies on so many pages of 4 KB that to look up where they are
// costs as much as all else that the edge does. It takes no memory.
func adviseHeap(bytes uint64) error {
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err != nil {
		return err
	}
	n := int(min(bytes, machine.Totalram*uint64(machine.Unit)/4)) //nolint:gosec // less than there is
	// Where the runtime cannot have so much it ends the process, so ask for it first.
	trial, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	if err := unix.Munmap(trial); err != nil {
		return err
	}
	heap := make([]byte, n) // of which none is touched
	toPage := -int(uintptr(unsafe.Pointer(&heap[0]))) & (os.Getpagesize() - 1)
	err = unix.Madvise(heap[toPage:], unix.MADV_HUGEPAGE)
	debug.FreeOSMemory() // the addresses are free again, and the advice stays with them
	return err
}
