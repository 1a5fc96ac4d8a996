package middleware

import (
	"context"
	"net/netip"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/voxedge/voxedge/session"
)

// Limits bound one client; zero is no limit.
type Limits struct {
	Connections int // at once
	Connects    int // a minute
	Characters  int // a minute
	Audio       int // seconds a day
}

// Subject is one whom limits are held against.
type Subject struct {
	Kind   string // "key" or "address"
	Name   string
	Limits Limits
}

// Denied says which limit is reached, and when it is worth trying again.
type Denied struct {
	What       string
	RetryAfter time.Duration
}

// Limiter holds limits over all edges.
type Limiter interface {
	// Connect takes a place of every subject, for as long as the allowance is not
	// closed, or says why there is none.
	Connect(ctx context.Context, subjects []Subject) (session.Allowance, *Denied)
}

const allowanceKey = "voxedge.allowance"

// AllowanceOf is what Limit has been given, or nil.
func AllowanceOf(c *fiber.Ctx) session.Allowance {
	a, _ := c.Locals(allowanceKey).(session.Allowance)
	return a
}

// Limit holds a client to the limits of its key and of its address. The
// allowance is closed with the connection.
func Limit(limiter Limiter, perKey, perAddress Limits, refused func(*session.Error), untilClosed func(c *fiber.Ctx, leave func())) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var subjects []Subject
		if name := IdentityOf(c).Name; name != "" && perKey != (Limits{}) {
			subjects = append(subjects, Subject{"key", name, perKey})
		}
		if perAddress != (Limits{}) {
			subjects = append(subjects, Subject{"address", network(AddressOf(c)), perAddress})
		}
		if Refused(c) || len(subjects) == 0 {
			return c.Next()
		}
		allowance, denied := limiter.Connect(c.UserContext(), subjects)
		if denied != nil {
			problem := RateLimited(denied)
			refused(problem)
			r := refusalOf(problem)
			r.RetryAfter = max(denied.RetryAfter, time.Second)
			return Refuse(c, r)
		}
		untilClosed(c, allowance.Close)
		c.Locals(allowanceKey, allowance)
		return c.Next()
	}
}

// network is the address, or what one customer has of IPv6.
func network(address string) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Is4() {
		return address
	}
	prefix, _ := addr.Prefix(64)
	return prefix.String()
}

// RateLimited is what the client is told.
func RateLimited(d *Denied) *session.Error {
	return session.Errorf(session.RateLimited, "Try again in "+max(d.RetryAfter, time.Second).Round(time.Second).String()+", or have the limit raised", "the limit of %s is reached", d.What)
}
