//go:build !linux

package bench

import (
	"errors"
	"net"
	"time"
)

// arrivals is of Linux, as the count of a process's time is.
type arrivals struct{}

func watchArrivals(*net.TCPConn) (*arrivals, error) { return nil, errors.ErrUnsupported }

func (*arrivals) wait(func(uintptr) bool) error { return errors.ErrUnsupported }

func (*arrivals) read(uintptr, []byte) (int, time.Time, error) {
	return 0, time.Time{}, errors.ErrUnsupported
}
