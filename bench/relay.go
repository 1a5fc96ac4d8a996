package bench

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Relay is the reference: what it reads from the source at the address it writes
// to the client, a message at a time. It serves until ctx is done.
func Relay(ctx context.Context, listen, source string, messageBytes int) error {
	return serve(ctx, listen, func(client net.Conn) {
		upstream, err := (&net.Dialer{}).DialContext(ctx, "tcp", source)
		if err != nil {
			return
		}
		defer context.AfterFunc(ctx, func() { _ = upstream.Close() })()
		defer func() { _ = upstream.Close() }()
		message := make([]byte, messageBytes)
		for {
			if _, err := io.ReadFull(upstream, message); err != nil {
				return
			}
			if _, err := client.Write(message); err != nil {
				return
			}
		}
	})
}

// Source sends messages to all who connect, one every so often, or as fast as
// they are taken where every is 0. Each begins with the time it was sent. It
// serves until ctx is done.
func Source(ctx context.Context, listen string, messageBytes int, every time.Duration) error {
	if every == 0 {
		return serve(ctx, listen, func(conn net.Conn) {
			message := make([]byte, messageBytes)
			for {
				stamp(message)
				if _, err := conn.Write(message); err != nil {
					return
				}
			}
		})
	}
	paced := &pacedSource{message: messageBytes, every: every, joined: make(chan net.Conn)}
	var pacing sync.WaitGroup
	defer pacing.Wait()
	pacing.Go(func() { paced.run(ctx) })
	return serve(ctx, listen, func(conn net.Conn) {
		select {
		case paced.joined <- conn:
			_, _ = conn.Read(make([]byte, 1)) // until it is closed
		case <-ctx.Done():
		}
	})
}

func stamp(message []byte) {
	binary.LittleEndian.PutUint64(message, uint64(time.Now().UnixNano())) //nolint:gosec // after 1970
}

// pacedSource writes to all connections, each at its own time, from one
// goroutine.
type pacedSource struct {
	message int
	every   time.Duration
	joined  chan net.Conn
	conns   []pacedConn // in the order in which they are due
}

type pacedConn struct {
	net.Conn
	due time.Time
}

func (s *pacedSource) run(ctx context.Context) {
	message := make([]byte, s.message)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case conn := <-s.joined:
			s.conns = append(s.conns, pacedConn{conn, time.Now().Add(s.every)})
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now, due := time.Now(), 0
		for due < len(s.conns) && !s.conns[due].due.After(now) {
			due++
		}
		later := slices.Clone(s.conns[:due])
		s.conns = slices.Delete(s.conns, 0, due)
		for _, c := range later {
			stamp(message)
			if _, err := c.Write(message); err == nil {
				s.conns = append(s.conns, pacedConn{c.Conn, c.due.Add(s.every)})
			}
		}
		if len(s.conns) > 0 {
			timer.Reset(time.Until(s.conns[0].due))
		}
	}
}

// serve has each connection handled in a goroutine, and returns when ctx is
// done and all have been.
func serve(ctx context.Context, listen string, handle func(net.Conn)) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	var handling sync.WaitGroup
	defer handling.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return nil //nolint:nilerr // it was closed, as ctx is done
		}
		handling.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			handle(conn)
		})
	}
}
