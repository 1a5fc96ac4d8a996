package doctor

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

// A name may have an address at which nothing is, which only some clients meet.
func TestADeadAddressAmongOthersIsNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ips := []net.IPAddr{{IP: net.IPv4(127, 0, 0, 2)}, {IP: net.IPv4(127, 0, 0, 1)}}
	conn, _, dead, err := dialAny(t.Context(), ips, port)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if len(dead) != 1 || dead["127.0.0.2"] == nil {
		t.Errorf("dead are %v", dead)
	}

	e := &examination{host: "voice.example", ips: ips, Options: Options{Platform: Local}}
	s := e.checkDead(map[string]error{"192.0.2.7": syscall.ECONNREFUSED})
	if s.Result != Warning || s.Cause != PortClosed.ID || !strings.Contains(s.Resolution, "192.0.2.7") {
		t.Errorf("%+v %+v", s, s.Finding)
	}
	if s := e.checkDead(map[string]error{"192.0.2.7": &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}}); s.Result != Warning || s.Cause != PacketsDropped.ID {
		t.Errorf("%+v %+v", s, s.Finding)
	}
	for ip, err := range map[string]error{"::1": syscall.ECONNREFUSED, "2001:db8::1": syscall.ENETUNREACH} { // which every machine has
		if s := e.checkDead(map[string]error{ip: err}); s.Name != "" {
			t.Errorf("%s: %+v", ip, s)
		}
	}
}
