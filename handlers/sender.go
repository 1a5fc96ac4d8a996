package handlers

import (
	"errors"
	"syscall"

	"github.com/voxedge/voxedge/session"
)

// NewSender returns what writes for many sessions with one system call, by
// Linux's io_uring. It fails where the kernel, or what guards it, does not let it;
// then each write is a system call.
func NewSender() (session.Sender, error) {
	r, err := newRing(session.SendAtOnce)
	if err != nil {
		return nil, err
	}
	return &sender{ring: r}, nil
}

// sender is one goroutine's.
type sender struct {
	ring    *ring
	sockets []*socket // whose locks are held
}

// Send locks the sockets until all is sent: so no descriptor can be another's by
// then.
func (s *sender) Send(conns []session.Conn) {
	for _, conn := range conns {
		to := conn.(*client).socket
		to.mu.Lock()
		if p := to.waiting(); len(p) == 0 || len(to.pending) > 0 || to.err != nil || !s.ring.add(to.fd, p) {
			to.mu.Unlock()
			continue
		}
		s.sockets = append(s.sockets, to)
	}
	for i, result := range s.ring.send() {
		to := s.sockets[i]
		to.sent(result)
		to.mu.Unlock()
		s.sockets[i] = nil
	}
	s.sockets = s.sockets[:0]
}

func (s *sender) Close() { s.ring.close() }

// sent takes note of what became of what is gathered: how many bytes were taken,
// or a negative errno. What was not tried is left to uncork. The lock is held.
func (s *socket) sent(result int32) {
	switch err := syscall.Errno(-result); {
	case result == notTried:
		return
	case result >= 0:
		_ = s.keep(s.waiting()[result:])
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		_ = s.keep(s.waiting())
	default:
		s.err = err
	}
	s.forget()
}
