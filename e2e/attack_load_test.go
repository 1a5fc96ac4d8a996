package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	bits "encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// attacks are what a stranger, or a client that has gone mad, does to the edge
// until ctx is done.
var attacks = map[string]func(ctx context.Context, addr string){
	"slow headers": func(ctx context.Context, addr string) {
		storm(ctx, 100, func() {
			hold(ctx, addr, func(c net.Conn) {
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: edge\r\n")
				for i := 0; ctx.Err() == nil; i++ {
					if _, err := fmt.Fprintf(c, "X-%d: a\r\n", i); err != nil {
						return
					}
					pause(ctx, 200*time.Millisecond)
				}
			})
		})
	},
	"half-open connections": func(ctx context.Context, addr string) {
		storm(ctx, 200, func() { hold(ctx, addr, func(net.Conn) { pause(ctx, time.Second) }) })
	},
	"message floods": func(ctx context.Context, addr string) {
		storm(ctx, 4, func() {
			flood(ctx, addr, websocket.CompressionDisabled, []byte(`{"type":"ping"}`), 100_000)
		})
	},
	"compressed bombs": func(ctx context.Context, addr string) {
		storm(ctx, 4, func() {
			flood(ctx, addr, websocket.CompressionContextTakeover, []byte(`{"type":"text","text":"`+strings.Repeat("a", 1<<20)+`"}`), 10)
		})
	},
	"fragments without end": func(ctx context.Context, addr string) {
		storm(ctx, 4, func() { hold(ctx, addr, func(c net.Conn) { fragments(ctx, c) }) })
	},
	"garbage": func(ctx context.Context, addr string) {
		storm(ctx, 20, func() {
			hold(ctx, addr, func(c net.Conn) {
				_, _ = io.CopyN(c, rand.Reader, 64<<10)
			})
		})
	},
	"oversized headers": func(ctx context.Context, addr string) {
		storm(ctx, 20, func() {
			hold(ctx, addr, func(c net.Conn) {
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: edge\r\nX: "+strings.Repeat("a", 1<<20))
			})
		})
	},
	"names that are JSON to the bottom": func(ctx context.Context, addr string) {
		storm(ctx, 4, func() {
			flood(ctx, addr, websocket.CompressionDisabled, []byte(`{"type":`+strings.Repeat("[", 100_000)), 100)
		})
	},
}

const (
	attackName = "VOXEDGE_ATTACK"
	attackAddr = "VOXEDGE_ATTACK_ADDR"
)

// startAttack has a process of its own attack, which yields to all others: the
// attackers of the world do not run on the edge's machine.
func startAttack(t testing.TB, name, addr string) (stop func()) {
	t.Helper()
	cmd := exec.Command("nice", "-n", "19", os.Args[0])
	cmd.Env = append(os.Environ(), attackName+"="+name, attackAddr+"="+addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// attackOnly makes this process an attacker if it was started as one.
func attackOnly() bool {
	attack := attacks[os.Getenv(attackName)]
	if attack == nil {
		return false
	}
	attack(context.Background(), os.Getenv(attackAddr))
	return true
}

// storm keeps n going at once.
func storm(ctx context.Context, n int, attack func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				attack()
				pause(ctx, 10*time.Millisecond)
			}
		})
	}
	all.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// hold opens a connection for the attack, and cuts it when ctx is done.
func hold(ctx context.Context, addr string, attack func(net.Conn)) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	attack(conn)
}

func flood(ctx context.Context, addr string, mode websocket.CompressionMode, text []byte, n int) {
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/", &websocket.DialOptions{CompressionMode: mode})
	if err != nil {
		return
	}
	defer func() { _ = ws.CloseNow() }()
	ctx = ws.CloseRead(ctx)
	for range n {
		if ws.Write(ctx, websocket.MessageText, text) != nil {
			return
		}
	}
}

// fragments begins one message and never ends it.
func fragments(ctx context.Context, c net.Conn) {
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return
	}
	payload := make([]byte, 1<<16)
	head := func(opcode byte) []byte {
		return bits.BigEndian.AppendUint64([]byte{opcode, 0x80 | 127}, uint64(len(payload)))
	}
	for opcode := byte(1); ctx.Err() == nil; opcode = 0 {
		if _, err := c.Write(append(append(head(opcode), 0, 0, 0, 0), payload...)); err != nil {
			return
		}
	}
}

// TestAttackWhileOthersListen has each attack run while sessions speak: every
// frame of every one is heard, and in the end the edge holds nothing more.
func TestAttackWhileOthersListen(t *testing.T) {
	withoutRaceDetector(t)
	s := startSystem(t)
	s.worker("w1")
	edge, url := s.edge("MAX_CONNECTIONS=300", "MAX_HANDSHAKES=150", "HANDSHAKE_TIMEOUT=2s")
	edge.await(1, "worker is healthy")
	listeners := make([]*listener, 20)
	for i := range listeners {
		listeners[i] = listen(t, "", url)
	}
	before := edge.usage(t)
	for name := range attacks {
		t.Run(name, func(t *testing.T) {
			stop := startAttack(t, name, strings.TrimPrefix(url, "ws://"))
			defer stop()
			var listening sync.WaitGroup
			for _, l := range listeners {
				l.t = t
				l.say(paragraph[:50])
				listening.Go(func() { l.expectEnd(l.hear(1), 50) })
			}
			listening.Wait()
			stop()
			for _, l := range listeners {
				if l.resumes > 0 {
					t.Errorf("a session was cut off %d times", l.resumes)
				}
			}
		})
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		after := edge.usage(t)
		if after.goroutines <= before.goroutines+10 && after.files <= before.files+poolFiles {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("before %+v, after %+v", before, after)
		}
	}
}
