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
	// Connect takes a place of the subject, for as long as the allowance is not
	// closed, or says why there is none.
	Connect(ctx context.Context, s Subject) (Place, *Denied)
}

// Place is what a connection has been given.
type Place interface {
	session.Allowance
	// Close gives it back.
	Close()
}

// PerAddress and PerKey find the subject that limits are held against; one that
// has no name has no limits.
func PerAddress(l Limits) func(*fiber.Ctx) Subject {
	return func(c *fiber.Ctx) Subject { return Subject{"address", network(AddressOf(c)), l} }
}

// PerKey is of the key, or the token's subject, that the client has shown.
func PerKey(l Limits) func(*fiber.Ctx) Subject {
	return func(c *fiber.Ctx) Subject { return Subject{"key", IdentityOf(c).Name, l} }
}

// allowances are several, of which each must allow.
type allowances []session.Allowance

const allowancesKey = "voxedge.allowances"

// AllowanceOf is what Limit has been given, or nil.
func AllowanceOf(c *fiber.Ctx) session.Allowance {
	if all, ok := c.Locals(allowancesKey).(allowances); ok {
		return all
	}
	return nil
}

// Text takes the characters off each, up to the first that has too few.
func (all allowances) Text(ctx context.Context, characters int) *session.Error {
	for _, a := range all {
		if problem := a.Text(ctx, characters); problem != nil {
			return problem
		}
	}
	return nil
}

// Spoken takes it off each, and says the first that is used up.
func (all allowances) Spoken(audio time.Duration) (first *session.Error) {
	for _, a := range all {
		if problem := a.Spoken(audio); first == nil {
			first = problem
		}
	}
	return first
}

// Limit holds a client to the limits of the subject. The allowance is closed
// with the connection.
func Limit(limiter Limiter, subjectOf func(*fiber.Ctx) Subject, refused func(*session.Error), untilClosed func(c *fiber.Ctx, leave func())) fiber.Handler {
	return func(c *fiber.Ctx) error {
		s := subjectOf(c)
		if Refused(c) || s.Name == "" || s.Limits == (Limits{}) {
			return c.Next()
		}
		allowance, denied := limiter.Connect(c.UserContext(), s)
		if denied != nil {
			problem := RateLimited(denied)
			refused(problem)
			r := refusalOf(problem)
			r.RetryAfter = max(denied.RetryAfter, time.Second)
			return Refuse(c, r)
		}
		untilClosed(c, allowance.Close)
		all, _ := c.Locals(allowancesKey).(allowances)
		c.Locals(allowancesKey, append(all, allowance))
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
