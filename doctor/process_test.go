package doctor

import (
	"net"
	"os"
	"syscall"
	"testing"
)

// Who listens at another address of the port is not its holder.
func TestTheHolderIsOfTheAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = ln.Close() }()
	port := ln.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		host  string
		holds bool
	}{{"127.0.0.2", true}, {"0.0.0.0", true}, {"::", true}, {"127.0.0.1", false}, {"::1", false}} {
		if got := Holder(tt.host, port); (got != nil) != tt.holds || got != nil && got.PID != os.Getpid() {
			t.Errorf("who is in the way at %s: %v", tt.host, got)
		}
	}
	for host, holds := range map[string]bool{"127.0.0.2": true, "127.0.0.1": false} {
		if got := holderOf(listeners(port), net.ParseIP(host)); (got != nil) != holds {
			t.Errorf("who gets connections to %s: %v", host, got)
		}
	}
}

func TestAListenerAtAllAddressesTakesThem(t *testing.T) {
	for _, tt := range []struct {
		at, ip string
		takes  bool
	}{
		{"0.0.0.0", "10.1.2.3", true}, {"0.0.0.0", "::1", false}, {"::", "10.1.2.3", true}, {"::", "::1", true},
		{"127.0.0.1", "127.0.0.1", true}, {"::ffff:127.0.0.1", "127.0.0.1", true}, {"127.0.0.1", "10.1.2.3", false},
	} {
		if got := takes(net.ParseIP(tt.at), net.ParseIP(tt.ip)); got != tt.takes {
			t.Errorf("%s takes %s: %v", tt.at, tt.ip, got)
		}
	}
}

// A refusal where somebody listens is a firewall's.
func TestARefusalWhereSomebodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	port := ln.Addr().(*net.TCPAddr).Port
	e := &examination{host: "127.0.0.1", port: "1"}
	if s := e.closedHere(port, listeners(port), []net.IP{net.IPv4(127, 0, 0, 1)}, syscall.ECONNREFUSED); s.Cause != Rejected.ID {
		t.Errorf("the cause is %s: %s", s.Cause, s.Evidence)
	}
}
