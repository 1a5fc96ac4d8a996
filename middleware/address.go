package middleware

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Proxies are those whose word is taken for where a request comes from.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks set apart by commas.
func ParseProxies(text string) (Proxies, error) {
	var all Proxies
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil {
				return nil, fmt.Errorf("%.60q is neither an address nor a network", s)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		all = append(all, unmap(prefix).Masked())
	}
	return all, nil
}

// mapped is how many bits of an IPv6 address say that it is one of IPv4.
const mapped = 96

// unmap is the IPv4 network that the prefix is, if it is one in IPv6.
func unmap(prefix netip.Prefix) netip.Prefix {
	if !prefix.Addr().Is4In6() || prefix.Bits() < mapped {
		return prefix
	}
	return netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped)
}

func (p Proxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr.Unmap()) || prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Address is where the client is: the last of X-Forwarded-For that a trusted
// proxy has not written of another trusted proxy. What stands before it, the
// client may have written itself.
func (p Proxies) Address(c *fiber.Ctx) string {
	var hops []string
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		hops = append(hops, strings.Split(string(line), ",")...)
	}
	return p.address(c.IP(), hops)
}

func (p Proxies) address(peer string, hops []string) string {
	at, err := netip.ParseAddr(peer)
	if err != nil {
		return peer
	}
	for i := len(hops) - 1; i >= 0 && p.trusts(at); i-- {
		next, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		at = next
	}
	return at.Unmap().String()
}

// parseHop reads an address, to which some proxies add the port.
func parseHop(s string) (netip.Addr, error) {
	if addr, err := netip.ParseAddrPort(s); err == nil {
		return addr.Addr(), nil
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	return netip.ParseAddr(s)
}

const addressKey = "voxedge.address"

// Check takes note of the address.
func (p Proxies) Check(c *fiber.Ctx) error {
	c.Locals(addressKey, p.Address(c))
	return c.Next()
}

// AddressOf is what Check has found.
func AddressOf(c *fiber.Ctx) string {
	if s, ok := c.Locals(addressKey).(string); ok {
		return s
	}
	return c.IP()
}
