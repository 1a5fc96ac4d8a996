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
	Connects    int // a minute, and as many tickets
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

// Rate is what is counted by the minute.
type Rate string

// What Limits.Connects bounds.
const (
	Connects Rate = "connects"
	Tickets  Rate = "tickets"
)

// Limiter holds limits over all edges.
type Limiter interface {
	// Count takes one off a rate of the subject, or says why there is none.
	Count(ctx context.Context, s Subject, r Rate) *Denied
	// Enter takes a place of the subject, for as long as it is not closed, or
	// says why there is none. A connection that replaces one that was counted
	// always gets its place.
	Enter(ctx context.Context, s Subject, replaces bool) (Place, *Denied)
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

// AllowanceIn is what Enter has been given, or nil, in the locals of a WebSocket.
func AllowanceIn(locals func(key string, value ...any) any) session.Allowance {
	if all, ok := locals(allowancesKey).(allowances); ok {
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

// Door holds clients to the limits of a subject, where they come in.
type Door struct {
	Limiter Limiter
	Of      func(*fiber.Ctx) Subject
	Refused func(*session.Error) // counts those who do not
}

// Count takes one off a rate.
func (d Door) Count(r Rate) fiber.Handler {
	return func(c *fiber.Ctx) error {
		s, limited := d.subject(c)
		if !limited {
			return c.Next()
		}
		if denied := d.Limiter.Count(c.UserContext(), s, r); denied != nil {
			return d.refuse(c, denied)
		}
		return c.Next()
	}
}

// Enter takes a place, which is given back with the connection. It is for those
// who are let in otherwise: nobody else is to hold a place.
func (d Door) Enter(replaces func(*fiber.Ctx) bool, untilClosed func(c *fiber.Ctx, leave func())) fiber.Handler {
	return func(c *fiber.Ctx) error {
		s, limited := d.subject(c)
		if !limited {
			return c.Next()
		}
		place, denied := d.Limiter.Enter(c.UserContext(), s, replaces(c))
		if denied != nil {
			return d.refuse(c, denied)
		}
		untilClosed(c, place.Close)
		all, _ := c.Locals(allowancesKey).(allowances)
		c.Locals(allowancesKey, append(all, place))
		return c.Next()
	}
}

// subject is whom limits are held against, if there are any.
func (d Door) subject(c *fiber.Ctx) (s Subject, limited bool) {
	s = d.Of(c)
	return s, !Refused(c) && s.Name != "" && s.Limits != (Limits{})
}

func (d Door) refuse(c *fiber.Ctx, denied *Denied) error {
	problem := RateLimited(denied)
	d.Refused(problem)
	r := refusalOf(problem)
	r.RetryAfter = max(denied.RetryAfter, time.Second)
	return Refuse(c, r)
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
