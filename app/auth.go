package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/voxedge/voxedge/clients"
	"github.com/voxedge/voxedge/middleware"
)

// parseKeys reads API_KEYS: name:hash, several set apart by commas. Nothing is
// no keys, but commas alone are a mistake that would let everybody in.
func parseKeys(text string) (map[[sha256.Size]byte]string, error) {
	keys := map[[sha256.Size]byte]string{}
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, digits, _ := strings.Cut(entry, ":")
		hash, err := hex.DecodeString(strings.TrimSpace(digits))
		if name == "" || err != nil || len(hash) != sha256.Size {
			return nil, errors.New("an entry is not name:hash, where the hash is 64 hexadecimal digits") // and what it is instead may be the key itself
		}
		if other, twice := keys[[sha256.Size]byte(hash)]; twice {
			return nil, fmt.Errorf("%.40q and %.40q are the same key", other, name)
		}
		keys[[sha256.Size]byte(hash)] = name
	}
	if text != "" && len(keys) == 0 {
		return nil, errors.New("it is set, and has no entry")
	}
	return keys, nil
}

// newAuth returns who may come in, and where there is a JWKS its issuer, which is
// to be run: the start does not wait for its keys, tokens do.
func newAuth(cfg Config, tickets middleware.TicketStore, log *slog.Logger) (*middleware.Auth, *issuer, error) {
	keys, err := parseKeys(cfg.APIKeys)
	if err != nil {
		return nil, nil, err
	}
	auth := middleware.AuthConfig{Keys: keys, Audience: cfg.JWTAudience, Issuer: cfg.JWTIssuer, Tickets: tickets, TicketTTL: cfg.TicketTTL}
	if cfg.JWTSecret != "" {
		auth.Secret = []byte(cfg.JWTSecret)
	}
	var jwks *issuer
	if cfg.JWKSURL != "" {
		if jwks, err = newIssuer(cfg.JWKSURL, log); err != nil {
			return nil, nil, err
		}
		auth.JWKS = jwks.key
	}
	a := middleware.NewAuth(auth, log)
	if !a.Enabled() {
		log.Warn("ANYBODY MAY CONNECT: no authentication is configured",
			"resolution", "set API_KEYS ('voxedge newkey <name>' makes one), JWT_SECRET or JWT_JWKS_URL before this edge is public")
	}
	return a, jwks, nil
}

// newTickets returns the store of tickets, or nil without Redis.
func (e *edge) newTickets() middleware.TicketStore {
	if e.sessions == nil {
		return nil
	}
	return clients.NewTickets(e.sessions)
}

// newKey makes an API key, and the entry of API_KEYS that lets it in.
func newKey(_ context.Context, c command) error {
	flags := c.flags("newkey NAME")
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	if flags.NArg() != 1 || strings.ContainsAny(flags.Arg(0), ":, ") {
		return &fault{exitUsage, "newkey takes one name, without colons, commas and spaces", "voxedge newkey app-2026"}
	}
	key := middleware.NewKey()
	hash := middleware.HashKey(key)
	_, _ = fmt.Fprintf(c.stdout, "key, for the client, shown this once:  %s\nentry, for the edge's API_KEYS:        %s:%s\n", key, flags.Arg(0), hex.EncodeToString(hash[:]))
	return nil
}
