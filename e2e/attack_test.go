package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

const (
	jwtSecret   = "a secret of the tests, long enough for one"
	jwtAudience = "voxedge"
	jwtIssuer   = "https://issuer.example"
)

// guarded is an edge that asks who comes, in every way it can.
type guarded struct {
	*system
	edge   *process
	url    string
	http   string
	apiKey string
	signer *ecdsa.PrivateKey // of the JWKS
}

func startGuarded(t *testing.T, env ...string) *guarded {
	t.Helper()
	g := &guarded{system: startSystem(t)}
	g.worker("w1")
	out, err := exec.Command(binary, "newkey", "app").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(out))
	g.apiKey = words[7]
	if g.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	point, err := g.signer.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": b64(point[1:33]), "y": b64(point[33:]),
		}}})
	}))
	t.Cleanup(keys.Close)
	g.edge, g.url = g.system.edge(append([]string{
		"API_KEYS=" + words[len(words)-1], "JWT_SECRET=" + jwtSecret, "JWT_JWKS_URL=" + keys.URL, "JWT_AUDIENCE=" + jwtAudience, "JWT_ISSUER=" + jwtIssuer,
		"ALLOWED_ORIGINS=https://app.example.com,https://*.voice.example", "LOG_LEVEL=debug",
	}, env...)...)
	g.edge.await(1, "worker is healthy")
	g.http = strings.Replace(g.url, "ws:", "http:", 1)
	return g
}

// claims are good ones, changed.
func claims(change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "alice", "aud": jwtAudience, "iss": jwtIssuer, "exp": time.Now().Add(time.Hour).Unix()}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims, kid string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// knock asks for a WebSocket with headers and a query, and returns the status.
func (g *guarded) knock(query string, headers ...string) (status int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Add(headers[i], headers[i+1])
	}
	ws, response, err := websocket.Dial(ctx, g.url+"/v1/stream?"+query, &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // Dial has read it
	if err == nil {
		defer func() { _ = ws.CloseNow() }()
		_, data, err := ws.Read(ctx)
		var m message
		if err == nil && json.Unmarshal(data, &m) == nil && m.Type == "error" {
			return map[string]int{"UNAUTHORIZED": 401, "FORBIDDEN_ORIGIN": 403, "RATE_LIMITED": 429}[m.Code] // as a browser is told
		}
		return 101
	}
	if response == nil {
		g.t.Fatal(err)
	}
	return response.StatusCode
}

func TestAttackTokens(t *testing.T) {
	g := startGuarded(t)
	bearer := func(s string) []string { return []string{"Authorization", "Bearer " + s} }
	hs := func(change func(jwt.MapClaims)) []string {
		return bearer(sign(t, jwt.SigningMethodHS256, []byte(jwtSecret), claims(change), ""))
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&g.signer.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := sign(t, jwt.SigningMethodES256, g.signer, claims(nil), "k1")
	for _, test := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"the key", bearer(g.apiKey), 101},
		{"an HS256 token", hs(nil), 101},
		{"an ES256 token", bearer(good), 101},
		{"nothing", nil, 401},
		{"an empty bearer", bearer(""), 401},
		{"another scheme", []string{"Authorization", "Basic " + g.apiKey}, 401},
		{"a wrong key", bearer("vx_" + strings.Repeat("A", 26)), 401},
		{"the key's start", bearer(g.apiKey[:len(g.apiKey)-1]), 401},
		{"an expired token", hs(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() }), 401},
		{"a token that never expires", hs(func(c jwt.MapClaims) { delete(c, "exp") }), 401},
		{"a token that is not valid yet", hs(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }), 401},
		{"a token for another", hs(func(c jwt.MapClaims) { c["aud"] = "billing" }), 401},
		{"a token for nobody", hs(func(c jwt.MapClaims) { delete(c, "aud") }), 401},
		{"a token of another", hs(func(c jwt.MapClaims) { c["iss"] = "https://evil.example" }), 401},
		{"a forged signature", bearer(good[:len(good)-4] + "AAAA"), 401},
		{"another's signature", bearer(sign(t, jwt.SigningMethodES256, stranger, claims(nil), "k1")), 401},
		{"a key id that is not known", bearer(sign(t, jwt.SigningMethodES256, g.signer, claims(nil), "k2")), 401},
		{"no algorithm", bearer(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), "")), 401},
		{"the public key as a secret", bearer(sign(t, jwt.SigningMethodHS256, public, claims(nil), "k1")), 401},
		{"another HMAC", bearer(sign(t, jwt.SigningMethodHS512, []byte(jwtSecret), claims(nil), "")), 401},
		{"a wrong secret", bearer(sign(t, jwt.SigningMethodHS256, []byte("guess"), claims(nil), "")), 401},
		{"other claims under the same signature", bearer(swapClaims(good)), 401},
	} {
		if got := g.knock("", test.headers...); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	for _, secret := range []string{g.apiKey, good, jwtSecret} {
		if strings.Contains(g.edge.output(), secret) {
			t.Errorf("the log has %.10s…", secret)
		}
	}
	g.edge.await(1, "session opened", "client", "app")
	g.edge.await(1, "session opened", "client", "jwt:alice")
}

// swapClaims puts other claims between the header and the signature.
func swapClaims(token string) string {
	parts := strings.Split(token, ".")
	other, _ := json.Marshal(claims(func(c jwt.MapClaims) { c["sub"] = "root" }))
	return parts[0] + "." + base64.RawURLEncoding.EncodeToString(other) + "." + parts[2]
}

// A session does not outlive the token that opened it.
func TestAttackTokenThatExpiresEndsTheSession(t *testing.T) {
	g := startGuarded(t)
	token := sign(t, jwt.SigningMethodHS256, []byte(jwtSecret), claims(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(2 * time.Second).Unix() }), "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, g.url, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}}) //nolint:bodyclose // Dial has read it
	if err != nil {
		t.Fatal(err)
	}
	var last message
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation || last.Reason != "token_expired" {
				t.Errorf("it ended with %v after %+v", err, last)
			}
			return
		}
		if err := json.Unmarshal(data, &last); err != nil {
			t.Fatal(err)
		}
	}
}

// ticket asks for one with the key.
func (g *guarded) ticket(body string, headers ...string) (ticket string, status int) {
	g.t.Helper()
	request, err := http.NewRequest(http.MethodPost, g.http+"/v1/tickets", strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Ticket string }
	_ = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Ticket, response.StatusCode
}

func TestAttackTickets(t *testing.T) {
	g := startGuarded(t, "TICKET_TTL=2s")
	key := []string{"Authorization", "Bearer " + g.apiKey}
	const app, other = "https://app.example.com", "https://eu.voice.example"
	give := func() string {
		t.Helper()
		ticket, status := g.ticket(`{"origin":"`+app+`"}`, key...)
		if status != 200 || ticket == "" {
			t.Fatalf("no ticket: %d", status)
		}
		return ticket
	}
	if _, status := g.ticket("{}"); status != 401 {
		t.Errorf("a stranger gets a ticket: %d", status)
	}
	if _, status := g.ticket("not JSON", key...); status != 400 {
		t.Errorf("a body of nonsense: %d", status)
	}
	for _, origin := range []string{"app.example.com", app + "/", "*", "null"} {
		if _, status := g.ticket(`{"origin":"`+origin+`"}`, key...); status != 400 {
			t.Errorf("a ticket for %q, which is no page: %d", origin, status)
		}
	}
	ticket := give()
	if got := g.knock("ticket="+ticket, "Origin", app); got != 101 {
		t.Errorf("a ticket: %d", got)
	}
	if got := g.knock("ticket="+ticket, "Origin", app); got != 401 {
		t.Errorf("the same ticket again: %d", got)
	}
	if got := g.knock("ticket="+give(), "Origin", other); got != 401 {
		t.Errorf("a ticket from another page: %d", got)
	}
	if got := g.knock("ticket=" + give()); got != 401 {
		t.Errorf("a ticket from no page: %d", got)
	}
	if got := g.knock("ticket="+give(), "Origin", "https://evil.example"); got != 403 {
		t.Errorf("a ticket from a page that may not connect: %d", got)
	}
	if got := g.knock("ticket="+give(), append(key, "Origin", app)...); got != 401 {
		t.Errorf("a ticket and a header: %d", got)
	}
	shared := give()
	var let atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if g.knock("ticket="+shared, "Origin", app) == 101 {
				let.Add(1)
			}
		})
	}
	all.Wait()
	if let.Load() != 1 {
		t.Errorf("%d of twenty at once got in with one ticket", let.Load())
	}
	late := give()
	awaitGone(t, g.redis, "voxedge:ticket:*")
	if got := g.knock("ticket="+late, "Origin", app); got != 401 {
		t.Errorf("a ticket that has expired: %d", got)
	}
	for _, secret := range []string{ticket, shared, late} {
		if strings.Contains(g.edge.output(), secret) {
			t.Error("the log has a ticket")
		}
	}
}

func TestSayShowsItsKey(t *testing.T) {
	g := startGuarded(t)
	say := func(more ...string) string {
		out, _ := exec.Command(binary, append([]string{"say", "Hello.", "-o", filepath.Join(t.TempDir(), "x.wav"), "--url", g.url}, more...)...).CombinedOutput()
		return string(out)
	}
	if out := say(); !strings.Contains(out, "Authorization: Bearer") {
		t.Errorf("without a key it says %q", out)
	}
	if out := say("--header", "Authorization: Bearer "+g.apiKey); !strings.Contains(out, "0 gaps") {
		t.Errorf("with its key it says %q", out)
	}
}

func TestAttackOrigins(t *testing.T) {
	g := startGuarded(t)
	key := []string{"Authorization", "Bearer " + g.apiKey}
	for origin, want := range map[string]int{
		"https://app.example.com": 101, "https://eu.voice.example": 101, g.http: 101,
		"https://voice.example": 403, "https://evil.example": 403, "null": 403, "https://app.example.com.evil.net": 403,
	} {
		if got := g.knock("", append(key, "Origin", origin)...); got != want {
			t.Errorf("%s: %d, want %d", origin, got, want)
		}
	}
}

// What a client writes into X-Forwarded-For neither gets it round a limit nor
// another into it.
func TestAttackForgedAddresses(t *testing.T) {
	g := startGuarded(t, "ADDRESS_CONNECTS_PER_MINUTE=3")
	for i := range 5 {
		want := 101
		if i >= 3 {
			want = 429
		}
		if got := g.knock("", "Authorization", "Bearer "+g.apiKey, "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i)); got != want {
			t.Errorf("connect %d: %d, want %d", i+1, got, want)
		}
	}
	behind := startGuarded(t, "ADDRESS_CONNECTS_PER_MINUTE=3", "TRUSTED_PROXIES=127.0.0.0/8")
	for i := range 5 {
		want := 101
		if i >= 3 {
			want = 429
		}
		if got := behind.knock("", "Authorization", "Bearer "+behind.apiKey, "X-Forwarded-For", fmt.Sprintf("198.51.100.%d, 203.0.113.9", i)); got != want {
			t.Errorf("connect %d through a proxy: %d, want %d", i+1, got, want)
		}
	}
	if got := behind.knock("", "Authorization", "Bearer "+behind.apiKey, "X-Forwarded-For", "203.0.113.10"); got != 101 {
		t.Errorf("another client through the proxy: %d", got)
	}
}
