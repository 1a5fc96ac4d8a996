package bench

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// arrivals reads from a socket, with the time at which the kernel had what is read.
// When the reader gets a core is its own affair: on a machine that it shares with what
// is measured that would be most of a message's lateness.
type arrivals struct {
	raw     syscall.RawConn
	header  unix.Msghdr
	into    unix.Iovec
	control [64]byte // room for one time
}

func watchArrivals(conn *net.TCPConn) (*arrivals, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	a := &arrivals{raw: raw}
	a.header.Iov, a.header.Iovlen, a.header.Control = &a.into, 1, &a.control[0]
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	if err == nil {
		err = refused
	}
	return a, err
}

// wait calls ready when there may be something to read, until it returns true.
func (a *arrivals) wait(ready func(fd uintptr) bool) error { return a.raw.Read(ready) }

// read reads what is there, at most as much as b has room for. It waits for nothing:
// with nothing there it returns EAGAIN.
func (a *arrivals) read(fd uintptr, b []byte) (n int, arrived time.Time, err error) {
	a.into.Base = &b[0]
	a.into.SetLen(len(b))
	a.header.SetControllen(len(a.control))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&a.header)), 0) //nolint:gosec // it is how to pass it
		if errno == 0 {
			return int(n), a.time(), nil //nolint:gosec // at most len(b)
		}
		if errno != unix.EINTR {
			return 0, time.Time{}, errno
		}
	}
}

// time is what the kernel says of the last that was read. It says nothing of what was
// there before it was asked to.
func (a *arrivals) time() time.Time {
	header := (*unix.Cmsghdr)(unsafe.Pointer(&a.control[0]))                                                                                                    //nolint:gosec // as the kernel wrote it
	if int(a.header.Controllen) < unix.CmsgLen(int(unsafe.Sizeof(unix.Timespec{}))) || header.Level != unix.SOL_SOCKET || header.Type != unix.SCM_TIMESTAMPNS { //nolint:gosec // small
		return time.Now()
	}
	at := (*unix.Timespec)(unsafe.Pointer(&a.control[unix.CmsgLen(0)])) //nolint:gosec // as the kernel wrote it
	return time.Unix(at.Unix())
}
