package app

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/voxedge/voxedge/doctor"
)

// listen opens a TCP port, or says why it cannot and what to do.
func listen(host string, port int, variable string) (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		if holder := doctor.Holder(host, port); holder != nil {
			return nil, &fault{exitFailed, fmt.Sprintf("port %d is held by %s", port, holder),
				fmt.Sprintf("End that process (kill %d), or set %s to a free port", holder.PID, variable)}
		}
		return nil, &fault{exitFailed, fmt.Sprintf("port %d is held by another process", port),
			fmt.Sprintf("End that process ('sudo ss -ltnp sport = :%d' names it), or set %s to a free port", port, variable)}
	case errors.Is(err, syscall.EACCES):
		return nil, &fault{exitFailed, fmt.Sprintf("port %d needs privileges that this process does not have", port),
			fmt.Sprintf("Set %s to a port above 1023", variable)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, &fault{exitFailed, fmt.Sprintf("%s is not an address of this machine", host),
			"Set HOST (HEALTH_HOST, WORKER_HOST) to 0.0.0.0 or to an address of this machine"}
	}
	return nil, &fault{exitFailed, err.Error(), "Set HOST and " + variable + " to an address and port that can be listened on"}
}

func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }
