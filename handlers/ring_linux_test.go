package handlers

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func openRing(t *testing.T, size int) *ring {
	t.Helper()
	r, err := newRing(size)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		t.Skip("this system has no io_uring for us: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// tcpPair returns the descriptor of one end of a connection, and both ends.
func tcpPair(t *testing.T) (fd int, near *net.TCPConn, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if far, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near = accepted.(*net.TCPConn)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	raw, err := near.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd, near, far
}

// Over more sends than the kernel's counters of a small ring have places, each
// arrives once, whole, and at its own socket.
func TestRingSendsToEachSocketItsOwn(t *testing.T) {
	r := openRing(t, 4)
	fds, fars := make([]int, 4), make([]net.Conn, 4)
	for i := range fds {
		fds[i], _, fars[i] = tcpPair(t)
	}
	for round := range 100 {
		n := 1 + round%4
		for i := range n {
			if !r.add(fds[i], bytes.Repeat([]byte{byte(round), byte(i)}, 1000)) {
				t.Fatalf("round %d: no room for send %d", round, i)
			}
		}
		if full := r.add(fds[0], []byte("one too many")); full != (n < 4) {
			t.Fatalf("round %d: with %d added, one more is taken: %t", round, n, full)
		} else if full {
			n++
		}
		results := r.send()
		if len(results) != n {
			t.Fatalf("round %d: %d results of %d sends", round, len(results), n)
		}
		for i := range 1 + round%4 {
			got := make([]byte, 2000)
			if _, err := io.ReadFull(fars[i], got); err != nil || results[i] != 2000 || !bytes.Equal(got, bytes.Repeat([]byte{byte(round), byte(i)}, 1000)) {
				t.Fatalf("round %d, socket %d: result %d, %v, got %.4x…", round, i, results[i], err, got)
			}
		}
		if n > 1+round%4 {
			if _, err := io.ReadFull(fars[0], make([]byte, len("one too many"))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A socket that is full, one whose client is gone and one that is closed say so,
// and the ones beside them are written to all the same.
func TestRingSaysWhatBecameOfEach(t *testing.T) {
	r := openRing(t, 8)
	full, nearFull, _ := tcpPair(t)
	_ = nearFull.SetWriteBuffer(4 << 10)
	gone, _, farGone := tcpPair(t)
	_ = farGone.(*net.TCPConn).SetLinger(0)
	_ = farGone.Close()
	const closed = 1<<20 - 1 // no descriptor of ours
	well, _, far := tcpPair(t)

	frame := make([]byte, 32<<10)
	taken := 0
	var results []int32
	for {
		for _, fd := range []int{full, gone, closed, well} {
			r.add(fd, frame)
		}
		results = slices.Clone(r.send())
		if _, err := io.ReadFull(far, frame); err != nil {
			t.Fatal(err)
		}
		if results[3] != int32(len(frame)) {
			t.Fatalf("the socket that is well took %d bytes", results[3])
		}
		if results[0] < 0 {
			break
		}
		taken += int(results[0])
	}
	if syscall.Errno(-results[0]) != unix.EAGAIN || taken == 0 {
		t.Errorf("a full socket took %d bytes and then said %v", taken, syscall.Errno(-results[0]))
	}
	if err := syscall.Errno(-results[1]); err != unix.EPIPE && err != unix.ECONNRESET {
		t.Errorf("a client that is gone: %v", err)
	}
	if err := syscall.Errno(-results[2]); err != unix.EBADF {
		t.Errorf("a closed descriptor: %v", err)
	}
}

// Where the kernel refuses all of a sudden, nothing is taken for sent.
func TestRingThatIsRefusedHasTriedNothing(t *testing.T) {
	r := openRing(t, 4)
	fd, _, far := tcpPair(t)
	ring := r.fd
	r.fd = -1
	r.add(fd, []byte("lost"))
	r.add(fd, []byte("lost"))
	if results := r.send(); !slices.Equal(results, []int32{notTried, notTried}) {
		t.Errorf("results %v, want %d for each", results, notTried)
	}
	r.fd = ring
	r.add(fd, []byte("sent"))
	results, got := r.send(), make([]byte, 4)
	if _, err := io.ReadFull(far, got); err != nil || results[0] != 4 || string(got) != "sent" {
		t.Errorf("afterwards: result %d, %v, %q arrives", results[0], err, got)
	}
}

func TestRingSendsWithoutAllocating(t *testing.T) {
	r := openRing(t, 4)
	fd, _, far := tcpPair(t)
	frame, got := make([]byte, 2000), make([]byte, 2000)
	if n := testing.AllocsPerRun(100, func() {
		r.add(fd, frame)
		r.send()
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a send", n)
	}
}
