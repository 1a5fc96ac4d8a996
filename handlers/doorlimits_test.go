package handlers_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/handlers"
	"github.com/voxedge/voxedge/middleware"
)

const (
	testKey    = "vx_the-key-of-this-test"
	testSecret = "a secret of the tests, long enough for one"
)

// ticketBox keeps tickets in memory.
type ticketBox struct {
	mu  sync.Mutex
	all map[string]middleware.Ticket
}

func (b *ticketBox) Put(_ context.Context, hash string, t middleware.Ticket, _ time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all[hash] = t
	return nil
}

func (b *ticketBox) Take(_ context.Context, hash string) (middleware.Ticket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.all[hash]
	if !ok {
		return t, middleware.ErrNoTicket
	}
	delete(b.all, hash)
	return t, nil
}

// testAuth asks for the test's key.
func testAuth(name string, box *ticketBox) *middleware.Auth {
	return middleware.NewAuth(middleware.AuthConfig{Keys: map[[sha256.Size]byte]string{middleware.HashKey(testKey): name},
		Secret: []byte(testSecret), Tickets: box, TicketTTL: time.Minute}, slog.New(slog.DiscardHandler))
}

// limited asks for the test's key and holds clients to limits.
func limited(perKey, perAddress middleware.Limits) func(*handlers.StreamConfig) {
	return func(s *handlers.StreamConfig) {
		log := slog.New(slog.DiscardHandler)
		s.Auth = testAuth("app", &ticketBox{all: map[string]middleware.Ticket{}})
		s.Limiter, s.PerKey, s.PerAddress = clients.NewLimiter(nil, log), perKey, perAddress
	}
}

func withKey(d *websocket.DialOptions) {
	if d.HTTPHeader == nil {
		d.HTTPHeader = http.Header{}
	}
	d.HTTPHeader.Set("Authorization", "Bearer "+testKey)
}

// refused dials, and returns the status.
func (e *edge) refused(query string, options ...dialOption) int {
	e.t.Helper()
	_, response, err := e.dial(query, options...)
	must(e.t, err != nil && response != nil, "it was let in, or not answered: %v", err)
	return response.StatusCode
}

// ticket asks for a ticket and returns it and the status.
func (e *edge) ticket(headers ...string) (ticket string, status int) {
	e.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+e.addr+"/v1/tickets", strings.NewReader(""))
	must(e.t, err == nil, "%v", err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	must(e.t, err == nil, "%v", err)
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Ticket string }
	_ = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Ticket, response.StatusCode
}

// A client that comes back is not refused for want of its own place, though its
// old connection is still there; a second session is.
func TestAResumeGetsThePlaceOfWhatItReplaces(t *testing.T) {
	one := middleware.Limits{Connections: 1}
	e := startEdge(t, testConfig(), nil, limited(one, one))
	c, _, err := e.dial("", withKey)
	must(t, err == nil, "%v", err)
	start := c.next()
	must(t, e.refused("", withKey) == 429, "a second session was not refused")
	for range 3 { // nor does it leave places behind
		c, _, err = e.dial(resumeQuery(start, 0), withKey)
		must(t, err == nil, "the resume was refused: %v", err)
		must(t, c.next().Resumed, "it was not resumed")
	}
	must(t, e.refused("", withKey) == 429, "a second session was not refused")
	must(t, c.ws.Close(websocket.StatusNormalClosure, "") == nil, "close")
	eventually(t, "the place is free", func() bool {
		c, _, err := e.dial("", withKey)
		return err == nil && c.next().Type == "session_start"
	})
}

// Those who are refused, and those who ask for tickets, hold no place.
func TestPlacesAreForThoseOnTheirWayToASession(t *testing.T) {
	one := middleware.Limits{Connections: 1}
	e := startEdge(t, testConfig(), nil, limited(one, one))
	c, _, err := e.dial("", withOrigin) // a browser without a ticket, which is let in to be told
	must(t, err == nil && c.next().Code == "UNAUTHORIZED", "%v", err)
	must(t, e.refused("") == 401, "no key")
	must(t, e.refused("pacing=fast", withKey) == 400, "a bad parameter")
	_, _, err = e.dial("", withKey)
	must(t, err == nil, "one place, and it is held by nobody: %v", err)
	for range 3 {
		_, status := e.ticket("Authorization", "Bearer "+testKey)
		must(t, status == 200, "no ticket at the limit of connections: %d", status)
	}
}

// Tickets have rates, which a page's Origin does not get round.
func TestTicketsHaveRates(t *testing.T) {
	two := middleware.Limits{Connects: 2}
	for name, change := range map[string]func(*handlers.StreamConfig){
		"key": limited(two, middleware.Limits{}), "address": limited(middleware.Limits{}, two),
	} {
		e := startEdge(t, testConfig(), nil, change)
		for i := range 4 {
			want := 200
			if i >= 2 {
				want = 429
			}
			headers := []string{"Authorization", "Bearer " + testKey, "Origin", "https://app.example"}
			_, got := e.ticket(headers[:2+i%2*2]...)
			must(t, got == want, "%s: ticket %d: %d, want %d", name, i+1, got, want)
		}
		_, _, err := e.dial("", withKey)
		must(t, err == nil, "%s: tickets take no connects: %v", name, err)
	}
}

// A ticket is used up by a session, not by a refusal.
func TestARefusalLeavesTheTicket(t *testing.T) {
	e := startEdge(t, testConfig(), nil, limited(middleware.Limits{Connections: 1}, middleware.Limits{}))
	ticket, _ := e.ticket("Authorization", "Bearer "+testKey)
	first, _, err := e.dial("", withKey)
	must(t, err == nil && first.next().Type == "session_start", "%v", err)
	must(t, e.refused("ticket="+ticket) == 429, "a second session was not refused")
	must(t, e.refused("pacing=fast&ticket="+ticket) == 400, "a bad parameter")
	c, _, err := e.dial("ticket="+ticket, withOrigin)
	must(t, err == nil && c.next().Code == "RATE_LIMITED", "a browser that is refused: %v", err)
	must(t, first.ws.Close(websocket.StatusNormalClosure, "") == nil, "close")
	eventually(t, "the ticket is taken when there is a place", func() bool {
		c, _, err := e.dial("ticket=" + ticket)
		return err == nil && c.next().Type == "session_start"
	})
	must(t, e.refused("ticket="+ticket) == 401, "it is taken twice")
}

// A ticket does not outlive the key that it was given for.
func TestATicketIsGoneWithItsKey(t *testing.T) {
	box := &ticketBox{all: map[string]middleware.Ticket{}}
	before := startEdge(t, testConfig(), nil, func(s *handlers.StreamConfig) { s.Auth = testAuth("old", box) })
	ticket, status := before.ticket("Authorization", "Bearer "+testKey)
	must(t, status == 200, "no ticket: %d", status)
	after := startEdge(t, testConfig(), nil, func(s *handlers.StreamConfig) { s.Auth = testAuth("new", box) })
	must(t, after.refused("ticket="+ticket) == 401, "a ticket of a key that is gone")
}

// A token may be good until long after a ticket could say.
func TestATokenOfTenThousandYearsGetsATicket(t *testing.T) {
	box := &ticketBox{all: map[string]middleware.Ticket{}}
	e := startEdge(t, testConfig(), nil, func(s *handlers.StreamConfig) { s.Auth = testAuth("app", box) })
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "alice", "exp": int64(1) << 40}).SignedString([]byte(testSecret))
	must(t, err == nil, "%v", err)
	ticket, status := e.ticket("Authorization", "Bearer "+token)
	must(t, status == 200 && ticket != "", "%d", status)
	for _, t1 := range box.all {
		_, err := json.Marshal(t1)
		must(t, err == nil, "it cannot be kept: %v", err)
	}
}
