package handlers

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is an io_uring for sends that do not wait: those that were added are made
// by one system call, and are done when it returns. It belongs to one goroutine.
type ring struct {
	fd              int
	queues, entries []byte // the kernel's memory: the two rings, and what the first points to
	submissions     []submission
	completions     []completion
	head, tail      *atomic.Uint32 // of the completions; the first is ours
	next            *atomic.Uint32 // where the next submission goes
	buffers         [][]byte       // what is to be sent: the kernel has numbers for addresses, which keep nothing alive
	results         []int32
	refused         error // by the last call that was
}

// notTried is the result of a send that the kernel was not asked for.
const notTried = math.MinInt32

// The kernel's structures, of linux/io_uring.h.
type (
	submission struct {
		operation, flags   uint8
		priority           uint16
		fd                 int32
		offset, address    uint64
		length, sendFlags  uint32
		user               uint64
		buffer, credential uint16
		splice             int32
		_                  [2]uint64
	}
	completion struct {
		user   uint64
		result int32
		flags  uint32
	}
	submissionOffsets struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	completionOffsets struct {
		head, tail, mask, entries, overflow, completions, flags, _ uint32
		_                                                          uint64
	}
	ringParams struct {
		submissions, completions, flags, cpu, idle, features, backend uint32
		_                                                             [3]uint32
		submission                                                    submissionOffsets
		completion                                                    completionOffsets
	}
)

const (
	opSend          = 26         // IORING_OP_SEND, of Linux 5.6
	oneMapping      = 1 << 0     // IORING_FEAT_SINGLE_MMAP, of Linux 5.4
	entriesAt       = 0x10000000 // IORING_OFF_SQES
	awaitCompletion = 1 << 0     // IORING_ENTER_GETEVENTS
)

// newRing returns a ring for so many sends at once, a power of two, which has sent
// a byte to show that it can.
func newRing(size int) (r *ring, err error) {
	var params ringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(size), uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r = &ring{fd: int(fd), buffers: make([][]byte, 0, size), results: make([]int32, 0, size)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if params.features&oneMapping == 0 {
		return nil, errors.New("io_uring is that of a kernel before 5.4")
	}
	queues := max(params.submission.array+4*params.submissions, params.completion.completions+params.completions*uint32(unsafe.Sizeof(completion{})))
	if r.queues, err = unix.Mmap(r.fd, 0, int(queues), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("io_uring's memory: %w", err)
	}
	if r.entries, err = unix.Mmap(r.fd, entriesAt, int(params.submissions)*int(unsafe.Sizeof(submission{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("io_uring's memory: %w", err)
	}
	r.submissions = unsafe.Slice((*submission)(unsafe.Pointer(&r.entries[0])), params.submissions)
	r.completions = unsafe.Slice((*completion)(unsafe.Pointer(&r.queues[params.completion.completions])), params.completions)
	r.head, r.tail, r.next = r.word(params.completion.head), r.word(params.completion.tail), r.word(params.submission.tail)
	for i := range params.submissions { // each place in the queue is of the entry of the same number
		r.word(params.submission.array + 4*i).Store(i)
	}
	return r, r.try()
}

func (r *ring) word(offset uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.queues[offset]))
}

// try sends a byte.
func (r *ring) try() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pair[0]); _ = unix.Close(pair[1]) }()
	r.add(pair[0], []byte{0})
	switch result := r.send()[0]; result {
	case 1:
		return nil
	case notTried:
		return fmt.Errorf("io_uring_enter: %w", r.refused)
	default:
		return fmt.Errorf("io_uring's send: %w", syscall.Errno(-result))
	}
}

// add puts a send into the queue, or reports that there is no room. p stays as it
// is, and the descriptor open, until send returns.
func (r *ring) add(fd int, p []byte) bool {
	n := len(r.results)
	if n == len(r.submissions) {
		return false
	}
	place := (r.next.Load() + uint32(n)) % uint32(len(r.submissions))
	r.submissions[place] = submission{
		operation: opSend, fd: int32(fd), sendFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL,
		address: uint64(uintptr(unsafe.Pointer(&p[0]))), length: uint32(len(p)), user: uint64(n),
	}
	r.buffers, r.results = append(r.buffers, p), append(r.results, notTried)
	return true
}

// send makes the sends that were added, and returns what came of each in the order
// in which they were: how many bytes the kernel has taken, a negative errno, or
// notTried. The results are valid until the next add.
func (r *ring) send() []int32 {
	results := r.results
	r.results = r.results[:0]
	added := uint32(len(results))
	r.next.Add(added)
	for waiting, open := added, added; open > 0; {
		// What does not wait is done when it was submitted, and to await it costs nothing.
		// The Go scheduler is not told of the call, for it would take the processor away
		// from a thread that is busy on it.
		n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(waiting), uintptr(open), awaitCompletion, 0, 0)
		switch {
		case errno == 0:
			waiting -= uint32(n)
		case errno == unix.EINTR:
		case waiting > 0: // the kernel takes no more
			r.refused = errno
			r.next.Add(-waiting)
			open -= waiting
			waiting = 0
		default:
			panic(fmt.Sprintf("io_uring_enter: %v while %d sends are under way", errno, open))
		}
		open -= r.reap(results)
	}
	clear(r.buffers)
	r.buffers = r.buffers[:0]
	return results
}

// reap takes down the results that are there, and returns how many.
func (r *ring) reap(results []int32) (n uint32) {
	head, tail := r.head.Load(), r.tail.Load()
	for ; head != tail; head++ {
		c := &r.completions[head%uint32(len(r.completions))]
		results[c.user] = c.result
		n++
	}
	r.head.Store(head)
	return n
}

func (r *ring) close() {
	for _, memory := range [][]byte{r.queues, r.entries} {
		if memory != nil {
			_ = unix.Munmap(memory)
		}
	}
	_ = unix.Close(r.fd)
}
