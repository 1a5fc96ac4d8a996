package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	jwksEvery    = time.Hour
	jwksRetry    = 5 * time.Second  // after a fetch that failed
	jwksLeast    = 10 * time.Second // between fetches for key ids that are not known: anybody may make them up
	jwksPatience = time.Second      // of a token for the fetch that may bring its key
	jwksTimeout  = 5 * time.Second  // of a fetch
	jwksBytes    = 1 << 20          // of an answer
)

// issuer knows the public keys of tokens, and fetches them anew.
type issuer struct {
	url    *url.URL
	client *http.Client
	log    *slog.Logger
	retry  time.Duration
	least  time.Duration
	wanted chan struct{} // somebody has shown a key id that is not known

	mu       sync.Mutex
	known    keySet
	fetching bool
	at       time.Time     // the end of the last fetch
	fetched  chan struct{} // closed and replaced then
	failing  bool
}

// keySet is what a JWKS holds.
type keySet struct {
	keys keyfunc.Keyfunc // nil: none were fetched yet
	ids  map[string]bool
	bad  string // why keys were left out, if any were
}

// newIssuer returns an issuer, which run must follow.
func newIssuer(address string, log *slog.Logger) (*issuer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("JWT_JWKS_URL is not a URL") // and what it is instead may hold a password
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // until the next fetch nobody keeps it
	return &issuer{url: u, client: &http.Client{Transport: transport, Timeout: jwksTimeout}, log: log, retry: jwksRetry, least: jwksLeast,
		wanted: make(chan struct{}, 1), fetching: true, fetched: make(chan struct{})}, nil
}

// run fetches the keys until ctx is done.
func (i *issuer) run(ctx context.Context) {
	for {
		wait := jwksEvery
		if err := i.fetch(ctx); err != nil {
			wait = i.retry
		}
		due := time.After(wait)
		select {
		case <-due:
		case <-i.wanted:
			select {
			case <-due:
			case <-time.After(time.Until(i.at.Add(i.least))):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// key is a jwt.Keyfunc. A key id that is not known has the keys fetched again,
// and waits for that if it may be done now.
func (i *issuer) key(t *jwt.Token) (any, error) {
	key, soon, err := i.find(t)
	if soon == nil {
		return key, err
	}
	select {
	case <-soon:
	case <-time.After(jwksPatience):
	}
	key, _, err = i.find(t)
	return key, err
}

var errNoKeys = errors.New("the keys of tokens were not fetched yet")

// find looks for the key among those known. soon is closed by a fetch that may
// bring it, if there is one at once.
func (i *issuer) find(t *jwt.Token) (key any, soon <-chan struct{}, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id, named := t.Header["kid"].(string)
	err = errNoKeys
	if i.known.keys != nil {
		if key, err = i.known.keys.Keyfunc(t); err == nil || !named || i.known.ids[id] {
			return key, nil, err
		}
	}
	select {
	case i.wanted <- struct{}{}:
	default: // it is told already
	}
	if i.fetching || time.Since(i.at) >= i.least {
		soon = i.fetched
	}
	return nil, soon, err
}

// fetch takes the issuer's keys for those known. Where it fails, those known stay.
func (i *issuer) fetch(ctx context.Context) error {
	i.mu.Lock()
	i.fetching = true
	i.mu.Unlock()
	known, err := i.get(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil {
		if known.bad != "" && known.bad != i.known.bad {
			i.log.Warn("keys of tokens are left out", "cause", known.bad, "url", i.place(), "resolution", "none, if they are of a kind that is not needed; else have the issuer correct them")
		}
		i.known = known
	}
	i.fetching, i.at = false, time.Now()
	close(i.fetched)
	i.fetched = make(chan struct{})
	switch {
	case err != nil && !i.failing && ctx.Err() == nil:
		i.log.Warn("the keys of tokens cannot be fetched; those known last are used", "cause", err.Error(), "url", i.place(),
			"resolution", "see that JWT_JWKS_URL can be reached from here and answers with a JWKS; it is tried again every few seconds")
	case err == nil && i.failing:
		i.log.Info("the keys of tokens are fetched again", "url", i.place())
	}
	i.failing = err != nil
	return err
}

// place is the URL without what may be secret of it.
func (i *issuer) place() string { return i.url.Host + i.url.Path }

func (i *issuer) get(ctx context.Context) (keySet, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url.String(), nil)
	if err != nil {
		return keySet{}, errors.New("the URL cannot be asked for")
	}
	response, err := i.client.Do(request)
	if err != nil {
		if whole, ok := errors.AsType[*url.Error](err); ok {
			err = whole.Err // without the URL
		}
		return keySet{}, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return keySet{}, fmt.Errorf("it answers with %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, jwksBytes+1))
	if err != nil {
		return keySet{}, err
	}
	if len(body) > jwksBytes {
		return keySet{}, fmt.Errorf("it answers with more than %d bytes", jwksBytes)
	}
	return parseJWKS(body)
}

// parseJWKS reads a JWKS. A key that cannot be read does not take the others
// with it.
func parseJWKS(body []byte) (known keySet, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return known, errors.New("it answers with something that is not a JWKS")
	}
	known.ids = map[string]bool{}
	good := set.Keys[:0]
	for _, raw := range set.Keys {
		if _, err := keyfunc.NewJWKJSON(raw); err != nil {
			known.bad = err.Error()
			continue
		}
		var named struct {
			ID string `json:"kid"`
		}
		_ = json.Unmarshal(raw, &named) // it was just read
		good, known.ids[named.ID] = append(good, raw), true
	}
	if known.bad != "" && len(good) == 0 {
		return known, errors.New("none of its keys can be read: " + known.bad)
	}
	set.Keys = good
	whole, err := json.Marshal(set)
	if err != nil {
		return known, err
	}
	known.keys, err = keyfunc.NewJWKSetJSON(whole)
	return known, err
}
