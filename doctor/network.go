package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	for _, ip := range e.ips {
		e.here = e.here || isHere(ip.IP)
	}
	if e.here {
		e.holder = Listener(port)
	}
	conn, err := dialAny(ctx, e.ips, e.port)
	if err == nil {
		e.conn = conn
		by := ""
		if e.holder != nil {
			by = ", held by " + e.holder.String()
		}
		return ok("tcp", "%s accepts (%s)%s", conn.RemoteAddr(), millis(time.Since(began)), by)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		if e.here {
			return e.closedHere(port, err)
		}
		return e.failed("tcp", PortClosed, nil, "%v: the host is there and turns the connection away", err)
	case isTimeout(err):
		if e.holder != nil && e.holder.Stopped {
			return e.failed("tcp", ProcessStopped, nil, "%s is in state T", e.holder)
		}
		return e.failed("tcp", PacketsDropped, nil, "%v: nothing came back within %s, not even a refusal", err, dialTimeout)
	case errors.Is(err, syscall.ECONNRESET):
		return e.failed("tcp", ConnectionReset, nil, "%v", err)
	}
	return e.failed("tcp", NoRoute, nil, "%v", err)
}

// closedHere looks on this machine for why nothing listens.
func (e *examination) closedHere(port int, err error) Step {
	if end := LastEnd(e.Environ, port); end != nil {
		return e.failed("tcp", end.Cause, nil, "%v; %s", err, end)
	}
	return e.failed("tcp", PortClosed, nil, "%v; no process of this machine listens at port %d", err, port)
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
func dialHost(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
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
