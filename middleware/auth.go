package middleware

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/voxedge/voxedge/session"
)

// Identity is who a client has shown to be.
type Identity struct {
	Name    string    `json:"name"`    // of the API key, or "jwt:" and the token's subject; empty where nobody is asked
	Expires time.Time `json:"expires"` // of the token; zero: never
}

// AuthConfig says which credentials are taken. The zero value takes all comers.
type AuthConfig struct {
	Keys     map[[sha256.Size]byte]string // names by the SHA-256 of the key
	Secret   []byte                       // of HS256 tokens; nil: none are taken
	JWKS     jwt.Keyfunc                  // of RS, PS, ES and EdDSA tokens; nil: none are taken
	Audience string                       // that a token must be for; empty: any
	Issuer   string                       // that a token must be of; empty: any
	// Tickets are what browsers come with, who cannot send a header; nil: none are given.
	Tickets   TicketStore
	TicketTTL time.Duration
}

// Auth finds out who a client is.
type Auth struct {
	cfg    AuthConfig
	names  map[string]bool // of the keys
	parser *jwt.Parser
	log    *slog.Logger
}

// NewAuth returns the authentication of the config.
func NewAuth(cfg AuthConfig, log *slog.Logger) *Auth {
	var methods []string
	if cfg.Secret != nil {
		methods = append(methods, "HS256")
	}
	if cfg.JWKS != nil {
		methods = append(methods, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
	}
	options := []jwt.ParserOption{jwt.WithValidMethods(methods), jwt.WithExpirationRequired()}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	names := map[string]bool{}
	for _, name := range cfg.Keys {
		names[name] = true
	}
	return &Auth{cfg, names, jwt.NewParser(options...), log}
}

// Enabled reports whether anybody is asked.
func (a *Auth) Enabled() bool { return len(a.cfg.Keys) > 0 || a.cfg.Secret != nil || a.cfg.JWKS != nil }

// HashKey is what is kept of an API key.
func HashKey(key string) [sha256.Size]byte { return sha256.Sum256([]byte(key)) }

// NewKey makes an API key of 130 random bits.
func NewKey() string { return "vx_" + rand.Text() }

// errWho is all that a stranger learns.
var errWho = session.Errorf(session.Unauthorized,
	"Send a valid API key or token as 'Authorization: Bearer …', or, from a browser, a fresh ticket of POST /v1/tickets as ?ticket=…",
	"the edge does not know who this is")

const identityKey = "voxedge.identity"

// IdentityOf is what Check has found.
func IdentityOf(c *fiber.Ctx) Identity {
	id, _ := c.Locals(identityKey).(Identity)
	return id
}

// Check lets in who shows a key, a token or a ticket. refused counts the others.
// A ticket is used up by a session alone: who is refused for another reason may
// come again with it.
func (a *Auth) Check(refused func(*session.Error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if Refused(c) || !a.Enabled() {
			return c.Next()
		}
		id, used, err := a.identify(c.UserContext(), c.Get(fiber.HeaderAuthorization), c.Query("ticket"), c.Get(fiber.HeaderOrigin))
		if err != nil {
			a.log.Info("a client was not let in", "remote", c.IP(), "cause", err.Error(), "resolution", errWho.Resolution, "runbook", session.Unauthorized.Runbook())
			problem := errWho
			if errors.Is(err, errNoStore) {
				problem = errTicketsAway
			}
			refused(problem)
			return Refuse(c, refusalOf(problem))
		}
		c.Locals(identityKey, id)
		err = c.Next()
		if used != nil && (err != nil || Refused(c) || c.Response().StatusCode() != fiber.StatusSwitchingProtocols) {
			a.giveBack(c.UserContext(), used)
		}
		return err
	}
}

var (
	errNothing  = errors.New("it showed neither key, token nor ticket")
	errTwo      = errors.New("it showed both a ticket and a header")
	errKey      = errors.New("the key is not one of ours")
	errTicket   = errors.New("the ticket was used, has expired, or never was")
	errOrigin   = errors.New("the ticket is for another origin")
	errUnknown  = errors.New("the ticket is of a key or a kind of token that is no longer taken")
	errNoStore  = errors.New("the store of tickets cannot be reached")
	errNoTicket = errors.New("tickets are not given here")
)

var errTicketsAway = session.Errorf(session.ConnectionError, "Try again in a second, with a fresh ticket", "tickets cannot be looked up or given now")

func (a *Auth) identify(ctx context.Context, header, ticket, origin string) (id Identity, used *usedTicket, err error) {
	switch {
	case header != "" && ticket != "":
		return id, nil, errTwo
	case ticket != "":
		if used, err = a.redeem(ctx, ticket, origin); err != nil {
			return id, nil, err
		}
		return used.Identity, used, nil
	case header != "":
		id, err = a.bearer(header)
		return id, nil, err
	}
	return id, nil, errNothing
}

// bearer knows API keys by their hash, which takes as long whether or not they
// are right, and everything else for a token.
func (a *Auth) bearer(header string) (Identity, error) {
	scheme, credential, _ := strings.Cut(header, " ")
	credential = strings.TrimSpace(credential)
	if !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return Identity{}, errNothing
	}
	if name, ok := a.cfg.Keys[HashKey(credential)]; ok {
		return Identity{Name: name}, nil
	}
	if a.cfg.Secret == nil && a.cfg.JWKS == nil || strings.Count(credential, ".") != 2 {
		return Identity{}, errKey
	}
	return a.token(credential)
}

func (a *Auth) token(text string) (Identity, error) {
	claims := jwt.RegisteredClaims{}
	if _, err := a.parser.ParseWithClaims(text, &claims, a.keyOf); err != nil {
		return Identity{}, fmt.Errorf("the token is not taken: %w", err)
	}
	id := Identity{Name: tokenPrefix + claims.Subject, Expires: claims.ExpiresAt.Time}
	if forever := time.Now().AddDate(100, 0, 0); id.Expires.After(forever) {
		id.Expires = forever // a ticket could not say the year 10000
	}
	return id, nil
}

const tokenPrefix = "jwt:" // no key's name has a colon

// keyOf never gives a public key to a method that would take it for a secret.
func (a *Auth) keyOf(t *jwt.Token) (any, error) {
	if _, symmetric := t.Method.(*jwt.SigningMethodHMAC); symmetric {
		if a.cfg.Secret == nil {
			return nil, errKey
		}
		return a.cfg.Secret, nil
	}
	if a.cfg.JWKS == nil {
		return nil, errKey
	}
	return a.cfg.JWKS(t)
}

// Ticket is an identity that a browser may use once.
type Ticket struct {
	Identity
	Origin string    `json:"origin"` // of the page that may use it; empty: any
	Until  time.Time `json:"until"`
}

// ErrNoTicket says that there is no such ticket, or no longer.
var ErrNoTicket = errors.New("no such ticket")

// TicketStore keeps tickets for all edges. Take returns a ticket once.
type TicketStore interface {
	Put(ctx context.Context, hash string, t Ticket, ttl time.Duration) error
	Take(ctx context.Context, hash string) (Ticket, error)
}

func hashTicket(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return hex.EncodeToString(sum[:])
}

// usedTicket is one that was taken, and what it was kept under.
type usedTicket struct {
	Ticket
	hash string
}

func (a *Auth) redeem(ctx context.Context, ticket, origin string) (*usedTicket, error) {
	if a.cfg.Tickets == nil {
		return nil, errNoTicket
	}
	page, _ := parseOrigin(origin)
	hash := hashTicket(ticket)
	t, err := a.cfg.Tickets.Take(ctx, hash)
	switch {
	case errors.Is(err, ErrNoTicket):
		return nil, errTicket
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoStore, err)
	case t.Origin != "" && t.Origin != page:
		return nil, errOrigin
	case !t.Expires.IsZero() && time.Now().After(t.Expires):
		return nil, errTicket
	case !a.takes(t.Name):
		return nil, errUnknown
	}
	return &usedTicket{t, hash}, nil
}

// takes reports whether who has the name could get a ticket now: tickets outlive
// the edge that gave them, and perhaps the key.
func (a *Auth) takes(name string) bool {
	if strings.HasPrefix(name, tokenPrefix) {
		return a.cfg.Secret != nil || a.cfg.JWKS != nil
	}
	return a.names[name]
}

// giveBack keeps the ticket for the rest of its time. One that cannot be kept is
// used up, and its client needs another.
func (a *Auth) giveBack(ctx context.Context, t *usedTicket) {
	if left := time.Until(t.Until); left > 0 {
		_ = a.cfg.Tickets.Put(ctx, t.hash, t.Ticket, left)
	}
}

// ticketAnswer is the wire contract of POST /v1/tickets.
type ticketAnswer struct {
	Ticket  string `json:"ticket"`
	Expires int    `json:"expires_in"` // seconds
}

// CheckBearer lets those in who ask for a ticket with a key or a token.
func (a *Auth) CheckBearer(refused func(*session.Error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		id, err := a.bearer(c.Get(fiber.HeaderAuthorization))
		if err != nil {
			refused(errWho)
			return Refuse(c, refusalOf(errWho))
		}
		c.Locals(identityKey, id)
		return c.Next()
	}
}

// GiveTicket answers POST /v1/tickets to whom CheckBearer has let in. The body may
// be {"origin":"https://…"}: the page that the ticket is for, which otherwise is
// the request's own Origin.
func (a *Auth) GiveTicket(refused func(*session.Error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		refuse := func(problem *session.Error) error {
			refused(problem)
			return Refuse(c, refusalOf(problem))
		}
		if a.cfg.Tickets == nil {
			return refuse(errTicketsAway)
		}
		ask := struct {
			Origin string `json:"origin"`
		}{c.Get(fiber.HeaderOrigin)}
		if len(c.Body()) > 0 && json.Unmarshal(c.Body(), &ask) != nil {
			return refuse(session.Errorf(session.InvalidMessage, `Send {"origin":"https://app.example.com"}, or nothing`, "the body is not what was expected"))
		}
		if ask.Origin != "" {
			origin, ok := parseOrigin(ask.Origin)
			if !ok {
				return refuse(session.Errorf(session.InvalidMessage, "Name it as browsers do: https://app.example.com", "%.100q is not a page's origin", ask.Origin))
			}
			ask.Origin = origin
		}
		ticket := rand.Text()
		if err := a.cfg.Tickets.Put(c.UserContext(), hashTicket(ticket), Ticket{IdentityOf(c), ask.Origin, time.Now().Add(a.cfg.TicketTTL)}, a.cfg.TicketTTL); err != nil {
			return refuse(errTicketsAway)
		}
		c.Set(fiber.HeaderCacheControl, "no-store")
		return c.JSON(ticketAnswer{ticket, int(a.cfg.TicketTTL.Seconds())})
	}
}
