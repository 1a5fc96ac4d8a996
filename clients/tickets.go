package clients

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/voxedge/voxedge/middleware"
)

const ticketPrefix = "voxedge:ticket:"

// Tickets keeps browsers' tickets in Redis, under their hash. It is a
// middleware.TicketStore.
type Tickets struct{ redis *redis.Client }

var _ middleware.TicketStore = (*Tickets)(nil)

// NewTickets returns a store.
func NewTickets(client *redis.Client) *Tickets { return &Tickets{client} }

// Put keeps a ticket for the time.
func (t *Tickets) Put(ctx context.Context, hash string, ticket middleware.Ticket, ttl time.Duration) error {
	data, err := json.Marshal(ticket)
	if err != nil {
		return err
	}
	return t.redis.Set(ctx, ticketPrefix+hash, data, ttl).Err()
}

// Take returns a ticket and removes it in the same step, so that of many who
// come with it at once one gets it.
func (t *Tickets) Take(ctx context.Context, hash string) (ticket middleware.Ticket, err error) {
	data, err := t.redis.GetDel(ctx, ticketPrefix+hash).Bytes()
	if errors.Is(err, redis.Nil) {
		return ticket, middleware.ErrNoTicket
	}
	if err != nil {
		return ticket, err
	}
	return ticket, json.Unmarshal(data, &ticket)
}
