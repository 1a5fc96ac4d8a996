package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// jwks is an issuer's answer, which may change.
type jwks struct {
	mu      sync.Mutex
	body    string // empty: it fails
	fetches atomic.Int64
}

func (j *jwks) set(body string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.body = body
}

func (j *jwks) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	j.fetches.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.body == "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.Write([]byte(j.body))
}

func jwkOf(t *testing.T, id string) string {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text, _ := json.Marshal(map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": b64(point[1:33]), "y": b64(point[33:])})
	return string(text)
}

func setOf(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

func tokenOf(id string) *jwt.Token {
	return &jwt.Token{Method: jwt.SigningMethodES256, Header: map[string]any{"alg": "ES256", "kid": id}}
}

// startIssuer fetches from the URL, and again after the time.
func startIssuer(t *testing.T, address string, again time.Duration, log *slog.Logger) *issuer {
	t.Helper()
	i, err := newIssuer(address, log)
	if err != nil {
		t.Fatal(err)
	}
	i.retry, i.least = again, again
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); i.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return i
}

func awaitKey(t *testing.T, i *issuer, id string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		_, err := i.key(tokenOf(id))
		if err == nil {
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%s is never known: %v", id, err)
		}
	}
}

// An issuer that was away is asked again soon, by itself.
func TestKeysAreFetchedWhenTheIssuerIsBack(t *testing.T) {
	j := &jwks{}
	server := httptest.NewServer(j)
	defer server.Close()
	i := startIssuer(t, server.URL, 10*time.Millisecond, slog.New(slog.DiscardHandler))
	if _, err := i.key(tokenOf("a")); err == nil {
		t.Fatal("a key of nowhere")
	}
	j.set(setOf(jwkOf(t, "a")))
	awaitKey(t, i, "a")
	j.set("")
	if _, err := i.key(tokenOf("made-up")); err == nil {
		t.Error("a key of nowhere")
	}
	awaitKey(t, i, "a") // it is kept
}

// Key ids that strangers make up neither flood the issuer nor keep a new key out
// for long.
func TestMadeUpKeyIDsCostLittle(t *testing.T) {
	j := &jwks{}
	j.set(setOf(jwkOf(t, "a")))
	server := httptest.NewServer(j)
	defer server.Close()
	const least = 500 * time.Millisecond
	i := startIssuer(t, server.URL, least, slog.New(slog.DiscardHandler))
	awaitKey(t, i, "a")
	began := time.Now()
	for range 1000 {
		if _, err := i.key(tokenOf("made-up")); err == nil {
			t.Fatal("a key of nowhere")
		}
	}
	if most := 2 + int64(time.Since(began)/least); j.fetches.Load() > most {
		t.Errorf("%d fetches in %s", j.fetches.Load(), time.Since(began))
	}
	j.set(setOf(jwkOf(t, "b")))
	awaitKey(t, i, "b")
	if _, err := i.key(tokenOf("a")); err == nil {
		t.Error("a key that was withdrawn is taken")
	}
}

// The first token of a new key is let in.
func TestANewKeyIsFetchedForItsFirstToken(t *testing.T) {
	j := &jwks{}
	j.set(setOf(jwkOf(t, "a")))
	server := httptest.NewServer(j)
	defer server.Close()
	const least = 100 * time.Millisecond
	i := startIssuer(t, server.URL, least, slog.New(slog.DiscardHandler))
	for _, id := range []string{"a", "b", "c"} {
		j.set(setOf(jwkOf(t, id)))
		time.Sleep(2 * least)
		if _, err := i.key(tokenOf(id)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		time.Sleep(2 * least)
	}
}

// One key that is none does not take the others with it, and too much is not read.
func TestAnIssuersMistakesAreItsOwn(t *testing.T) {
	j := &jwks{}
	server := httptest.NewServer(j)
	defer server.Close()
	i := startIssuer(t, server.URL, 10*time.Millisecond, slog.New(slog.DiscardHandler))
	j.set(setOf(`{"kty":"EC","crv":"P-256","kid":"bad","x":"!","y":"?"}`, jwkOf(t, "a"), `{"kty":"RSA","n":7}`, `[]`))
	awaitKey(t, i, "a")
	for _, body := range []string{"<html>", "{}", `{"keys":[{"kty":"none"}]}`, setOf(`{"kty":"EC","pad":"` + strings.Repeat("x", jwksBytes) + `"}`)} {
		if _, err := parseJWKS([]byte(body)); err == nil {
			t.Errorf("%.20s is taken for keys", body)
		}
	}
	j.set(setOf(jwkOf(t, "a")) + strings.Repeat(" ", jwksBytes))
	if _, err := i.get(t.Context()); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("more than there may be: %v", err)
	}
}

func TestTheIssuersSecretsAreNotLogged(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()
	for _, server := range []*httptest.Server{closed, refusing} {
		var log bytes.Buffer
		address := strings.Replace(server.URL, "http://", "http://user:hunter2@", 1) + "/keys?api_key=hunter3"
		i, err := newIssuer(address, slog.New(slog.NewJSONHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if i.fetch(t.Context()) == nil {
			t.Fatal("it was fetched")
		}
		if text := log.String(); strings.Contains(text, "hunter") || strings.Contains(text, "user") || !strings.Contains(text, "/keys") || !strings.Contains(text, "127.0.0.1") {
			t.Error(text)
		}
	}
}
