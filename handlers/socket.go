package handlers

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

const (
	// sendBuffer bounds, in bytes, what the kernel keeps for a client that does
	// not read, about a second of frames, and receiveBuffer what of a client that is
	// not read; Linux doubles them.
	sendBuffer    = 64 << 10
	receiveBuffer = 64 << 10
	// maxPending bounds, in bytes, what the edge keeps besides: one frame and the
	// small messages that come after it.
	maxPending = 64 << 10
	// linger is how long a closing connection may take to send what waits and to
	// answer the close message.
	linger = 2 * time.Second
	// readRate is how much is read from a WebSocket, in bytes a second and in one go;
	// each read counts as so many more, for crumbs cost more than what is in them.
	readRate = 1 << 20
	readCost = 256
	// acceptRetry is how long connections wait where there was no file descriptor,
	// and complainEvery how often that is said.
	acceptRetry   = 50 * time.Millisecond
	complainEvery = 10 * time.Second
)

var errPending = errors.New("the client asks for more than it reads")

// listener hands out sockets instead of bare connections.
type listener struct {
	net.Listener
	log    *slog.Logger
	cfg    ListenConfig
	slots  chan struct{} // one for each connection that is no WebSocket yet
	closed chan struct{}
	once   sync.Once

	complained time.Time // the accepting goroutine's
}

// ListenConfig says what a listener expects.
type ListenConfig struct {
	MaxHandshakes int  // connections at once that are no WebSocket yet; more wait in the kernel
	TLS           bool // there is TLS above the listener
}

// Listen wraps ln so that the WebSockets accepted on it can be written to
// without waiting. Visitors that speak TLS where there is none are logged, and
// those that speak none where there is are told.
func Listen(ln net.Listener, cfg ListenConfig, log *slog.Logger) net.Listener {
	return &listener{Listener: ln, cfg: cfg, log: log, slots: make(chan struct{}, cfg.MaxHandshakes), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	s := &socket{Conn: conn, log: l.log, from: l}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer)
		_ = tcp.SetReadBuffer(receiveBuffer)
		if s.raw, err = tcp.SyscallConn(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.tryWriteFunc = s.tryWrite
	}
	return s, nil
}

// accept waits while the process has no file descriptor left for one more
// connection: the HTTP server would take that for the end of the listener.
func (l *listener) accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return conn, err
		}
		if now := time.Now(); now.Sub(l.complained) >= complainEvery {
			l.complained = now
			l.log.Error("connections wait: the process has no file descriptor left", "cause", err.Error(),
				"resolution", "raise the limit of open files (ulimit -n) above MAX_CONNECTIONS and what else the edge needs; voxedge preflight reckons it")
		}
		select {
		case <-time.After(acceptRetry):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// socket is a connection whose writes, once it carries a WebSocket, never
// wait: what the kernel does not take is kept, and flushed by whoever has the
// time to wait. It sits below TLS and the WebSocket library, so that both work
// as they always do.
type socket struct {
	net.Conn
	log  *slog.Logger
	from *listener
	done sync.Once       // with the handshake
	raw  syscall.RawConn // nil where the connection has no file descriptor
	pace *rate.Limiter   // of a WebSocket's reads
	read bool            // the first read is done

	onClose []func() // set by the request, called by Close; the HTTP server orders the two
	closed  sync.Once

	mu      sync.Mutex
	async   bool
	closing bool // deadlines are the close's and stay
	corked  bool
	pending []byte
	err     error
	fd      int // valid until err is set

	frame    []byte  // what is gathered, where it lies, if it is one frame
	gathered *[]byte // what is gathered, if it is more; else nil

	// The system call's argument and results, kept here so that a write does not
	// allocate a closure.
	buf          []byte
	n            int
	sysErr       error
	tryWriteFunc func(fd uintptr) bool
}

// Read recognises a greeting that is not for this port.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if s.pace != nil && n > 0 {
		time.Sleep(s.pace.ReserveN(time.Now(), min(n+readCost, readRate)).Delay())
	}
	if !s.read && n > 0 {
		s.read = true
		switch {
		case s.from.cfg.TLS && p[0] >= 'A' && p[0] <= 'Z':
			s.turnAway("This port speaks TLS (HTTPS): begin the URL with wss://")
			return 0, errPlain
		case !s.from.cfg.TLS && p[0] == tlsHandshake:
			s.log.Warn("a client speaks TLS to a plain port", "remote", s.RemoteAddr().String(),
				"cause", "its URL begins with wss:// or https://, and no TLS is set up at this port",
				"resolution", "use ws:// here, or put TLS before this port (on Fly.io: handlers tls and http)")
			s.turnAway("TLS on a plain port: begin the URL with ws://")
			return 0, errTLS
		}
	}
	return n, err
}

// turnAway answers a visitor of the wrong protocol, who may read plain HTTP.
func (s *socket) turnAway(why string) {
	_, _ = s.Conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + why + "\n"))
	// Closed while bytes wait to be read, the connection would be reset, and the
	// answer might be lost.
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
		_ = tcp.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.CopyN(io.Discard, tcp, maxGreeting)
	}
}

const (
	tlsHandshake = 0x16
	maxGreeting  = 16 << 10 // of one of the wrong protocol; a TLS record is no longer
)

var (
	errTLS   = errors.New("TLS on a plain port")
	errPlain = errors.New("plain HTTP on a TLS port")
)

// detach makes writes no longer wait, and reads wait for their turn.
func (s *socket) detach() {
	s.pace = rate.NewLimiter(readRate, readRate)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw == nil {
		return
	}
	s.async = true
	if err := s.raw.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil && s.err == nil {
		s.err = err
	}
}

// shaken makes room for another handshake.
func (s *socket) shaken() { s.done.Do(func() { <-s.from.slots }) }

// Write writes p, or what the kernel takes of it and keeps the rest.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	if !s.async {
		s.mu.Unlock()
		return s.Conn.Write(p)
	}
	defer s.mu.Unlock()
	put := s.write
	if s.corked {
		put = s.gather
	}
	if err := put(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFrame is Write of what stays as it is until uncork: one frame is gathered
// where it lies.
func (s *socket) writeFrame(p []byte) error {
	s.mu.Lock()
	alone := s.corked && s.waiting() == nil
	if alone {
		s.frame = p
	}
	s.mu.Unlock()
	if alone {
		return nil // uncork says what is wrong
	}
	_, err := s.Write(p)
	return err
}

// cork gathers what is written, until uncork or so much of it that a client
// that does not read must be noticed: a system call costs more than a frame.
func (s *socket) cork() {
	s.mu.Lock()
	s.corked = s.async
	s.mu.Unlock()
}

// gather puts p behind what is gathered. The lock is held.
func (s *socket) gather(p []byte) error {
	if s.gathered == nil {
		s.gathered = gatherBuffers.Get().(*[]byte)
		*s.gathered = append((*s.gathered)[:0], s.frame...)
		s.frame = nil
	}
	if len(*s.gathered)+len(p) > gatherBytes {
		if err := s.write(*s.gathered); err != nil {
			return err
		}
		*s.gathered = (*s.gathered)[:0]
	}
	*s.gathered = append(*s.gathered, p...)
	return nil
}

// waiting is what is gathered. The lock is held.
func (s *socket) waiting() []byte {
	if s.gathered != nil {
		return *s.gathered
	}
	return s.frame
}

// forget drops what is gathered. The lock is held.
func (s *socket) forget() {
	if s.gathered != nil {
		gatherBuffers.Put(s.gathered)
	}
	s.frame, s.gathered = nil, nil
}

func (s *socket) uncork() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.corked = false
	if p := s.waiting(); len(p) > 0 {
		_ = s.write(p) // s.err has it
	}
	s.forget()
	return s.err
}

// gatherBytes bounds what is written at once.
const gatherBytes = 32 << 10

var gatherBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, gatherBytes)
	return &b
}}

// write hands p to the kernel and keeps what that does not take. The lock is held.
func (s *socket) write(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if len(s.pending) > 0 {
		return s.keep(p)
	}
	s.buf = p
	err := s.raw.Write(s.tryWriteFunc)
	s.buf = nil
	if err == nil {
		err = s.sysErr
	}
	if err != nil {
		s.err = err
		return err
	}
	return s.keep(p[s.n:])
}

// keep keeps what the kernel has not taken. The lock is held.
func (s *socket) keep(rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	if len(s.pending)+len(rest) > maxPending {
		s.err = errPending
		return s.err
	}
	s.pending = append(s.pending, rest...)
	return nil
}

// tryWrite makes one system call and is content with whatever comes of it.
func (s *socket) tryWrite(fd uintptr) bool {
	s.n, s.sysErr = writeFD(fd, s.buf)
	return true
}

// blocked reports whether bytes wait.
func (s *socket) blocked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
}

// flush waits until no bytes wait, or the client has taken none for the
// patience. One goroutine at a time may flush.
func (s *socket) flush(patience time.Duration) error {
	var (
		waiting  []byte
		n        int
		writeErr error
	)
	write := func(fd uintptr) (done bool) { // or the runtime waits for room in the socket
		n, writeErr = writeFD(fd, waiting)
		return n > 0 || writeErr != nil
	}
	for {
		s.mu.Lock()
		waiting = s.pending
		if len(waiting) == 0 {
			s.pending = nil
			s.mu.Unlock()
			return nil
		}
		if !s.closing {
			_ = s.Conn.SetWriteDeadline(time.Now().Add(patience))
		}
		s.mu.Unlock()

		err := s.raw.Write(write)
		if err == nil {
			err = writeErr
		}
		s.mu.Lock()
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				s.err = err
			}
			if !s.closing {
				_ = s.Conn.SetWriteDeadline(time.Time{})
			}
			s.mu.Unlock()
			return err
		}
		s.pending = s.pending[n:]
		if len(s.pending) == 0 && !s.closing {
			_ = s.Conn.SetWriteDeadline(time.Time{})
		}
		s.mu.Unlock()
	}
}

// Close closes the connection and gives back what was held for its lifetime. A
// sender that is at it has its descriptor until it is done.
func (s *socket) Close() error {
	s.mu.Lock()
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.mu.Unlock()
	err := s.Conn.Close()
	s.shaken()
	s.closed.Do(func() {
		for _, leave := range s.onClose {
			leave()
		}
	})
	return err
}

// closeSoon lets both directions go after the linger.
func (s *socket) closeSoon() { s.expire(time.Now().Add(linger)) }

// abort lets both directions go at once.
func (s *socket) abort() { s.expire(time.Unix(1, 0)) }

func (s *socket) expire(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	_ = s.SetDeadline(t)
}

// SetWriteDeadline is the HTTP server's to use; a WebSocket's deadline is
// flush's.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.async {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}
