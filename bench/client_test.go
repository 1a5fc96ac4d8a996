package bench

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// pair returns a receiver and the other end of its connection.
func pair(t *testing.T) (*receiver, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	r, err := dialTCP(t.Context(), ln.Addr().String())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("the kernel does not say when data arrives")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	return r, peer
}

// What comes in pieces, or many at once, is heard message by message, whole.
func TestAClientHearsEachMessageOnce(t *testing.T) {
	audio := ws.MustCompileFrame(ws.NewTextFrame(append([]byte(`{"type":"audio"`), bytes.Repeat([]byte("x"), 3000)...)))
	stream := bytes.Repeat(append(ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"type":"utterance_end"}`))), audio...), 50)
	for _, piece := range []int{1000, len(audio), 4099, len(stream)} {
		r, peer := pair(t)
		began := time.Now().Add(-time.Second) // the kernel's clock is read on its own
		written := make(chan error, 1)
		go func() {
			var err error
			for rest := stream; err == nil && len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				_, err = peer.Write(rest[:min(piece, len(rest))])
			}
			written <- errors.Join(err, peer.Close())
		}()
		heard := 0
		c := &edgeClient{receiver: r, ctx: t.Context()}
		_ = c.listen(func(m message) { // it ends with the connection
			heard++
			if m.size != len(audio) || m.arrived.Before(began) || m.arrived.After(time.Now().Add(time.Second)) {
				t.Errorf("message %d has %d bytes and arrived at %v", heard, m.size, m.arrived)
			}
		})
		if err := <-written; err != nil || heard != 50 {
			t.Errorf("in pieces of %d bytes: heard %d messages of 50, written: %v", piece, heard, err)
		}
	}
}

func TestAClientAnswersPings(t *testing.T) {
	r, peer := pair(t)
	listening := make(chan error, 1)
	go func() {
		listening <- (&edgeClient{receiver: r, ctx: t.Context()}).listen(func(message) {})
	}()
	if err := ws.WriteFrame(peer, ws.NewPingFrame([]byte("there?"))); err != nil {
		t.Fatal(err)
	}
	header, err := ws.ReadHeader(peer)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, len("there?"))
	if _, err := io.ReadFull(peer, payload); err != nil {
		t.Fatal(err)
	}
	if ws.Cipher(payload, header.Mask, 0); header.OpCode != ws.OpPong || string(payload) != "there?" {
		t.Errorf("a ping is answered with %d %q", header.OpCode, payload)
	}
	r.close()
	if err := <-listening; err == nil {
		t.Error("a client whose connection was closed goes on listening")
	}
}

// A client that is being closed reads no more, though there is always more to read: the
// close waits for it.
func TestAClientThatIsClosedReadsNoMore(t *testing.T) {
	r, peer := pair(t)
	if _, err := peer.Write(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	r.closed.Store(true)
	err := (&relayClient{r, 8}).listen(func(message) { t.Error("it was heard") })
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("the client ended with %v, want %v", err, net.ErrClosed)
	}
}
