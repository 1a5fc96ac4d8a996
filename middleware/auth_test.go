package middleware

import (
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Whatever a stranger writes into the header, nobody comes in but with the key
// or a token that was signed with the secret and has not expired.
func FuzzAuthorization(f *testing.F) {
	const key = "vx_the-key-of-this-test"
	secret := []byte("a secret of the tests, long enough for one")
	auth := NewAuth(AuthConfig{Keys: map[[sha256.Size]byte]string{HashKey(key): "app"}, Secret: secret, Audience: "voxedge"}, slog.New(slog.DiscardHandler))
	token := func(method jwt.SigningMethod, key any, expires time.Time) string {
		text, err := jwt.NewWithClaims(method, jwt.RegisteredClaims{Subject: "alice", Audience: jwt.ClaimStrings{"voxedge"}, ExpiresAt: jwt.NewNumericDate(expires)}).SignedString(key)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	good := token(jwt.SigningMethodHS256, secret, time.Now().Add(24*time.Hour))
	if id, err := auth.bearer("Bearer " + good); err != nil || id.Name != "jwt:alice" {
		f.Fatal(id, err)
	}
	for _, credential := range []string{
		key, good, token(jwt.SigningMethodHS256, secret, time.Now().Add(-time.Hour)), token(jwt.SigningMethodHS512, secret, time.Now().Add(time.Hour)),
		token(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, time.Now().Add(time.Hour)), "..", "a.b.c", "",
	} {
		f.Add("Bearer " + credential)
	}
	f.Add("Basic dXNlcjpwYXNz")
	f.Fuzz(func(t *testing.T, header string) {
		id, err := auth.bearer(header)
		if err != nil {
			if id != (Identity{}) {
				t.Errorf("refused, and known as %+v", id)
			}
			return
		}
		if id.Name == "app" {
			return // it takes the key to have its hash
		}
		if id.Name != "jwt:alice" || id.Expires.Before(time.Now()) {
			t.Errorf("%q is %+v", header, id)
		}
	})
}
