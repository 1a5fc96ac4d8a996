package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// receiver reads messages from a connection, at the least that it can cost: the
// machine is to be that of what is measured. It reads once for what woke it, where
// a Read would find out first that there is nothing yet.
type receiver struct {
	conn     *net.TCPConn
	arrivals *arrivals
	buffer   []byte
	n        int       // bytes in it that were not taken
	arrived  time.Time // when the last of what was read together did
	closed   atomic.Bool
}

// receiveBytes holds some messages; only a client that is far behind has more to read.
const receiveBytes = 16 << 10

func newReceiver(conn net.Conn) (*receiver, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.New("not a TCP connection")
	}
	arrivals, err := watchArrivals(tcp)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return &receiver{conn: tcp, arrivals: arrivals, buffer: make([]byte, receiveBytes)}, nil
}

func dialTCP(ctx context.Context, addr string) (*receiver, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return newReceiver(conn)
}

// receive has take take what comes, until that fails. take returns how much it took;
// the rest it meets again, with what came after it.
func (r *receiver) receive(take func(b []byte) (taken int, err error)) (err error) {
	err = r.take(take)
	if err != nil {
		return err
	}
	for {
		if err := r.conn.SetReadDeadline(time.Now().Add(lookAgain)); err != nil {
			return err
		}
		waiting := r.arrivals.wait(func(fd uintptr) bool {
			var drained bool
			for !drained && err == nil {
				drained, err = r.read(fd)
				if err == nil {
					err = r.take(take)
				}
			}
			return err != nil
		})
		switch {
		case err != nil:
			return err
		case !errors.Is(waiting, os.ErrDeadlineExceeded):
			return waiting
		}
	}
}

// lookAgain is when to look for an end that came with the last data: the kernel tells of
// both at once.
const lookAgain = time.Second

// read reads once, and reports whether that was all that there is.
func (r *receiver) read(fd uintptr) (drained bool, err error) {
	free := r.buffer[r.n:]
	n, arrived, err := r.arrivals.read(fd, free)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return true, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.EOF
	case r.closed.Load():
		return false, net.ErrClosed
	}
	r.n += n
	r.arrived = arrived
	return n < len(free), nil
}

func (r *receiver) take(take func([]byte) (int, error)) error {
	taken, err := take(r.buffer[:r.n])
	r.n = copy(r.buffer, r.buffer[taken:r.n])
	if err == nil && r.n == len(r.buffer) {
		return errors.New("a message is longer than any that is expected")
	}
	return err
}

func (r *receiver) close() {
	r.closed.Store(true)
	_ = r.conn.Close()
}
