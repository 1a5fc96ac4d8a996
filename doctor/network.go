package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func (e *examination) checkName(ctx context.Context) Step {
	began := time.Now()
	if ip := net.ParseIP(e.host); ip != nil {
		e.ips = []net.IPAddr{{IP: ip}}
		return ok("name", "%s is an address", e.host)
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, e.host)
	if err != nil {
		if isNotFound(err) {
			return e.failed("name", NameNotFound, nil, "%v", err)
		}
		return e.failed("name", NameServer, nil, "%v, after %s", err, millis(time.Since(began)))
	}
	e.ips = ips
	var texts []string
	for _, ip := range ips {
		texts = append(texts, ip.String())
	}
	return ok("name", "%s is %s (%s)", e.host, strings.Join(texts, ", "), millis(time.Since(began)))
}

func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func (e *examination) checkTCP(ctx context.Context) Step {
	began := time.Now()
	port, _ := strconv.Atoi(e.port)
	var local []net.IP
	for _, ip := range e.ips {
		if isHere(ip.IP) {
			local = append(local, ip.IP)
		}
	}
	e.here = len(local) > 0
	conn, err := dialAny(ctx, e.ips, e.port)
	e.dialed = time.Since(began)
	if remote, ok := remoteIP(conn); ok {
		e.here, local = isHere(remote), []net.IP{remote}
	}
	var sockets []socket
	if e.here {
		sockets = listeners(port)
	}
	for _, ip := range local {
		if e.holder == nil {
			e.holder = holderOf(sockets, ip)
		}
	}
	if err == nil {
		e.conn = conn
		by := ""
		if e.holder != nil {
			by = ", held by " + e.holder.String()
		}
		return ok("tcp", "%s accepts (%s)%s", conn.RemoteAddr(), millis(e.dialed), by)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		if e.here {
			return e.closedHere(port, sockets, local, err)
		}
		return e.failed("tcp", PortClosed, nil, "%v: the host is there and turns the connection away", err)
	case isTimeout(err):
		if e.holder != nil && e.holder.Stopped {
			return e.failed("tcp", ProcessStopped, nil, "%s is in state T", e.holder)
		}
		return e.failed("tcp", PacketsDropped, nil, "%v: nothing came back within %s, not even a refusal", err, dialTimeout)
	case errors.Is(err, syscall.ECONNRESET):
		return e.failed("tcp", ConnectionReset, nil, "%v", err)
	case e.holder != nil:
		return e.failed("tcp", Rejected, nil, "%v, though %s listens there", err, e.holder)
	}
	return e.failed("tcp", NoRoute, nil, "%v", err)
}

func remoteIP(conn net.Conn) (net.IP, bool) {
	if conn == nil {
		return nil, false
	}
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return nil, false
	}
	return addr.IP, true
}

// closedHere looks on this machine for why a connection is refused.
func (e *examination) closedHere(port int, sockets []socket, wanted []net.IP, err error) Step {
	for _, s := range sockets {
		if slices.ContainsFunc(wanted, func(ip net.IP) bool { return takes(s.at, ip) }) {
			return e.failed("tcp", Rejected, nil, "%v, though %s listens at %s", err, named(owner([]socket{s})), s.at)
		}
	}
	beside := ""
	for _, s := range sockets {
		who := owner([]socket{s})
		if who == nil || who.isEdge() {
			return e.failed("tcp", OtherAddress, what(net.JoinHostPort(s.at.String(), e.port)), "%v; %s listens at port %d of %s only", err, named(who), port, s.at)
		}
		beside = fmt.Sprintf("; %s listens at port %d of %s only", who, port, s.at)
	}
	if end := LastEnd(e.Environ, port); end != nil {
		return e.failed("tcp", end.Cause, nil, "%v; %s", err, end)
	}
	if beside == "" {
		beside = fmt.Sprintf("; no process of this machine listens at port %d", port)
	}
	return e.failed("tcp", PortClosed, nil, "%v%s", err, beside)
}

// named is the process in words, where it can be seen.
func named(p *Process) string {
	if p == nil {
		return "a process that cannot be seen from here (sudo ss -ltnp)"
	}
	return p.String()
}

// dialAny tries the addresses one after another, all of them within the timeout.
func dialAny(ctx context.Context, ips []net.IPAddr, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type dialled struct {
		conn net.Conn
		err  error
	}
	results := make(chan dialled, len(ips))
	for _, ip := range ips {
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
			results <- dialled{conn, err}
		}()
	}
	var first dialled
	for range ips { // all are awaited, so that none is left open
		switch r := <-results; {
		case r.err == nil && first.conn == nil:
			first.conn = r.conn
			cancel()
		case r.err == nil:
			_ = r.conn.Close()
		case first.err == nil || isTimeout(r.err) && first.conn == nil:
			first.err = r.err
		}
	}
	if first.conn != nil {
		return first.conn, nil
	}
	return nil, first.err
}

// isTimeout reports whether nothing at all came back.
func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// dialHost connects to host:port as a client would.
func dialHost(ctx context.Context, addr string) error { return dialTo(ctx, "tcp", addr) }

func dialTo(ctx context.Context, network, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// excerpt is the start of what some program said, made readable.
func excerpt(data []byte) string {
	if len(data) > 60 {
		data = data[:60]
	}
	return fmt.Sprintf("%q", data)
}
