package e2e

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Container platforms forbid io_uring: Docker's seccomp profile has its calls fail
// with EPERM, and a sandbox such as gVisor does not know them.
const (
	forbiddenCalls  = "E2E_IO_URING_ERRNO"
	forbiddenBinary = "E2E_IO_URING_BINARY"
)

// forbiddenOnly makes this process the binary without io_uring if it was started
// as that.
func forbiddenOnly() bool {
	var errno uint32
	if _, err := fmt.Sscan(os.Getenv(forbiddenCalls), &errno); err != nil {
		return false
	}
	runtime.LockOSThread()
	err := errors.Join(forbidIOUring(errno), syscall.Exec(os.Getenv(forbiddenBinary), os.Args, os.Environ()))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
	return true
}

// forbidIOUring has io_uring's system calls fail in this thread and in what it
// executes.
func forbidIOUring(errno uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: unix.SYS_IO_URING_SETUP, Jf: 2},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: unix.SYS_IO_URING_REGISTER, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

func allowsIOUring() bool {
	var params [15]uint64 // struct io_uring_params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno == 0 {
		_ = unix.Close(int(fd))
	}
	return errno == 0
}

// An edge that may not use io_uring says so, once, and speaks all the same; one
// that may says nothing.
func TestFaultIOUringForbidden(t *testing.T) {
	const said = "each write of frames is a system call"
	for _, errno := range []syscall.Errno{0, unix.EPERM, unix.ENOSYS} {
		t.Run(fmt.Sprint(errno), func(t *testing.T) {
			if errno == 0 && !allowsIOUring() {
				t.Skip("this system has no io_uring for us")
			}
			s := startSystem(t)
			s.worker("w1")
			var env []string
			if errno != 0 {
				self, err := os.Executable()
				if err != nil {
					t.Fatal(err)
				}
				env = []string{fmt.Sprint(forbiddenCalls, "=", uint(errno)), forbiddenBinary + "=" + binary}
				voxedge := binary
				binary = self
				defer func() { binary = voxedge }()
			}
			edge, url := s.edge(env...)
			edge.await(1, "worker is healthy")
			bystander(t, url)
			if errno == 0 {
				if strings.Contains(edge.output(), said) {
					t.Error("it says that it may not use io_uring, and it may")
				}
				return
			}
			line := edge.await(1, said)
			if cause := fmt.Sprint(line["cause"]); !strings.Contains(cause, errno.Error()) || line["resolution"] == "" {
				t.Errorf("%v", line)
			}
			if n := strings.Count(edge.output(), said); n != 1 {
				t.Errorf("it says so %d times", n)
			}
		})
	}
}
