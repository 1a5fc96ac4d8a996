package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	port, _ := strconv.Atoi(e.port)
	var local []net.IP
	for _, ip := range e.ips {
		if isHere(ip.IP) {
			local = append(local, ip.IP)
		}
	}
	e.here = len(local) > 0
	conn, took, dead, err := dialAny(ctx, e.ips, e.port)
	e.dialed = took
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
		e.take(e.checkDead(dead))
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

// dialAny tries the addresses at once, and returns the connection to the first
// that is open, how long it took, and why each of the others is not.
func dialAny(ctx context.Context, ips []net.IPAddr, port string) (conn net.Conn, took time.Duration, dead map[string]error, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type dialled struct {
		ip   string
		conn net.Conn
		err  error
	}
	began := time.Now()
	results := make(chan dialled, len(ips))
	for _, ip := range ips {
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
			results <- dialled{ip.String(), conn, err}
		}()
	}
	dead = map[string]error{}
	for range ips { // all are awaited, so that none is left open
		switch r := <-results; {
		case r.err == nil && conn == nil:
			conn, took = r.conn, time.Since(began)
		case r.err == nil:
			_ = r.conn.Close()
		default:
			dead[r.ip] = r.err
			if err == nil || isTimeout(r.err) {
				err = r.err
			}
		}
	}
	if conn != nil {
		return conn, took, dead, nil
	}
	return nil, time.Since(began), dead, err
}

// checkDead warns of the addresses of the name at which nothing is, while others
// are well: some clients come there. A host has localhost, and IPv6 addresses that
// have no way from here, whether it uses them or not.
func (e *examination) checkDead(dead map[string]error) Step {
	for _, ip := range slices.Sorted(maps.Keys(dead)) {
		err := dead[ip]
		if net.ParseIP(ip).IsLoopback() || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || len(e.ips) < 2 {
			continue
		}
		cause := PortClosed
		if isTimeout(err) {
			cause = PacketsDropped
		}
		s := e.failed("tcp "+ip, cause, nil, "%v: %s is one of the %d addresses of %s, and others are open", err, ip, len(e.ips), e.host)
		s.Resolution = fmt.Sprintf("Take %s out of the addresses of %s, or have an edge listen there", ip, e.host)
		return warned(s)
	}
	return Step{}
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
