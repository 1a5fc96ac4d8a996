package handlers_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestASessionHoldsNothingOfItsRequest(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	c := e.connect("option.voice=amy")
	eventually(t, "the session is read, and by no goroutine of the HTTP server's", func() bool {
		var goroutines strings.Builder
		must(t, pprof.Lookup("goroutine").WriteTo(&goroutines, 1) == nil, "no goroutines")
		return !strings.Contains(goroutines.String(), "hijackConnHandler") && strings.Contains(goroutines.String(), "converse")
	})
	for range 5 { // others' requests are read into what it gave back
		e.connect("option.voice=" + strings.Repeat("x", 200)).ws.CloseNow()
	}
	c.say("ab", true)
	c.hear(1, 2, "completed")
}

// Some clients send with the handshake: the HTTP server has read it by then.
func TestWhatComesWithTheHandshakeIsHeard(t *testing.T) {
	e := startEdge(t, testConfig(), nil)
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			conn, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			text := fmt.Sprintf(`{"type":"ping","id":"%d"}`, i)
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+masked(1, text)+masked(1, `{"type":"text","text":"a","is_final":true}`))
			var said bytes.Buffer
			for !strings.Contains(said.String(), "utterance_end") {
				if _, err := io.CopyN(&said, conn, 1); err != nil {
					t.Errorf("%v after %q", err, said.String())
					return
				}
			}
			if want := fmt.Sprintf(`"type":"pong","id":"%d"`, i); !strings.Contains(said.String(), want) {
				t.Errorf("no %s in %q", want, said.String())
			}
			_, _ = io.WriteString(conn, masked(8, "\x03\xe8"))
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	all.Wait()
}

// masked is a client's WebSocket message of at most 125 bytes.
func masked(kind byte, text string) string {
	mask := []byte{1, 2, 3, 4}
	message := append([]byte{0x80 | kind, 0x80 | byte(len(text))}, mask...)
	for i := range len(text) {
		message = append(message, text[i]^mask[i%4])
	}
	return string(message)
}
