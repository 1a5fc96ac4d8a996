package middleware

import (
	"net/netip"
	"testing"
)

func TestAddressCannotBeForged(t *testing.T) {
	proxies, err := ParseProxies("10.0.0.0/8, 192.0.2.7, fd00::/8, ::ffff:172.16.0.0/108, ::ffff:192.0.2.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		peer string
		hops []string
		want string
	}{
		{"no proxy", "203.0.113.9", nil, "203.0.113.9"},
		{"a stranger's word is nothing", "203.0.113.9", []string{"1.1.1.1"}, "203.0.113.9"},
		{"a proxy's word", "10.1.2.3", []string{"203.0.113.9"}, "203.0.113.9"},
		{"what the client wrote before", "10.1.2.3", []string{"1.1.1.1", " 203.0.113.9 "}, "203.0.113.9"},
		{"two proxies", "10.1.2.3", []string{"1.1.1.1", "203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		{"a client behind them that is one of them", "10.1.2.3", []string{"10.9.9.9"}, "10.9.9.9"},
		{"nonsense", "10.1.2.3", []string{"203.0.113.9", "unknown"}, "10.1.2.3"},
		{"IPv6", "fd00::1", []string{"2001:db8::5"}, "2001:db8::5"},
		{"IPv4 in IPv6", "::ffff:10.1.2.3", []string{"203.0.113.9"}, "203.0.113.9"},
		{"an IPv4 network written in IPv6", "172.16.1.2", []string{"203.0.113.9"}, "203.0.113.9"},
		{"beside that network", "172.32.1.2", []string{"203.0.113.9"}, "172.32.1.2"},
		{"an IPv4 address written in IPv6", "192.0.2.8", []string{"203.0.113.9"}, "203.0.113.9"},
		{"a port", "10.1.2.3", []string{"1.1.1.1", "203.0.113.9:5555"}, "203.0.113.9"},
		{"IPv6 and a port", "10.1.2.3", []string{"[2001:db8::5]:5555"}, "2001:db8::5"},
		{"IPv6 in brackets", "10.1.2.3", []string{"[2001:db8::5]"}, "2001:db8::5"},
		{"a proxy with its port", "10.1.2.3", []string{"203.0.113.9", "192.0.2.7:80"}, "203.0.113.9"},
		{"a port that is none", "10.1.2.3", []string{"203.0.113.9:http"}, "10.1.2.3"},
	} {
		if got := proxies.address(test.peer, test.hops); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// Whatever stands in the header: from a stranger it changes nothing.
func FuzzAddress(f *testing.F) {
	f.Add("1.1.1.1, 10.0.0.1", "203.0.113.9")
	f.Fuzz(func(t *testing.T, header, peer string) {
		proxies := Proxies{netip.MustParsePrefix("10.0.0.0/8")}
		at, err := netip.ParseAddr(peer)
		if got := proxies.address(peer, []string{header}); err == nil && !proxies.trusts(at) && got != at.Unmap().String() {
			t.Errorf("%q from %s gave %s", header, peer, got)
		}
	})
}
