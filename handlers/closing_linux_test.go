package handlers

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/voxedge/voxedge/session"
)

// socketOn makes a socket of a connection, as a listener does, with a frame
// gathered.
func socketOn(t *testing.T, near *net.TCPConn) *socket {
	t.Helper()
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	from := &listener{slots: make(chan struct{}, 1)}
	from.slots <- struct{}{}
	s := &socket{Conn: near, from: from, raw: raw}
	s.tryWriteFunc = s.tryWrite
	s.detach()
	s.cork()
	if err := s.writeFrame([]byte("frame")); err != nil {
		t.Fatal(err)
	}
	return s
}

// A descriptor that was closed may be another connection's by the time a sender
// comes to it.
func TestSenderLeavesWhatIsClosed(t *testing.T) {
	sender := &sender{ring: openRing(t, 4)}
	fd, near, _ := tcpPair(t)
	s := socketOn(t, near)
	other, nearOther, far := tcpPair(t)
	_ = s.Close()
	if err := unix.Dup3(other, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	sender.Send([]session.Conn{&client{socket: s}})
	if err := s.uncork(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("uncork says %v", err)
	}
	got := make([]byte, 4)
	if _, err := nearOther.Write([]byte("mark")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "mark" {
		t.Errorf("another connection was sent %q, %v", got, err)
	}
}

// While a sender is at it, a descriptor stays open.
func TestCloseAwaitsTheSender(t *testing.T) {
	fd, near, _ := tcpPair(t)
	s := socketOn(t, near)
	s.mu.Lock() // as Send does
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	stacks := make([]byte, 1<<20)
	for waits := false; !waits; runtime.Gosched() {
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			waits = waits || strings.Contains(stack, "(*socket).Close") && strings.Contains(stack, "(*Mutex).Lock")
		}
		select {
		case err := <-closed:
			t.Fatalf("it was closed, %v, under a sender", err)
		default:
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("the descriptor is closed under a sender: %v", err)
	}
	s.mu.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// What the kernel does not take is kept, and nothing more is sent before it.
func TestSenderKeepsWhatIsNotTaken(t *testing.T) {
	sender := &sender{ring: openRing(t, 4)}
	_, near, far := tcpPair(t)
	_ = near.SetWriteBuffer(4 << 10)
	s := socketOn(t, near)
	if err := s.uncork(); err != nil {
		t.Fatal(err)
	}
	want := []byte("frame")
	for n := byte(1); !s.blocked(); n++ {
		frame := make([]byte, 30<<10)
		frame[0] = n
		want = append(want, frame...)
		s.cork()
		if err := s.writeFrame(frame); err != nil {
			t.Fatal(err)
		}
		sender.Send([]session.Conn{&client{socket: s}})
		if err := s.uncork(); err != nil {
			t.Fatal(err)
		}
	}
	s.cork() // behind what waits, though the client reads by now
	if err := s.writeFrame([]byte("last")); err != nil {
		t.Fatal(err)
	}
	want = append(want, "last"...)
	got := make([]byte, len(want))
	taken := len(want) - len("last") - len(s.pending)
	if _, err := io.ReadFull(far, got[:taken]); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := io.ReadFull(far, got[taken:])
		read <- err
	}()
	sender.Send([]session.Conn{&client{socket: s}})
	if err := s.uncork(); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || string(got) != string(want) {
		t.Errorf("%v, and what arrives is not what was sent", err)
	}
}
