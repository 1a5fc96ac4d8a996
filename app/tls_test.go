package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCertificatesThatAreNoneAreTheConfigurationsFault(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"nowhere.pem", empty} {
		_, public := serverTLS(Config{TLSCertFile: file, TLSKeyFile: file}, slog.New(slog.DiscardHandler))
		_, inner := workerTLS(Config{WorkerTLSCA: file}, slog.New(slog.DiscardHandler))
		for _, err := range []error{public, inner} {
			if f, ok := errors.AsType[*fault](err); !ok || f.status != exitUsage || f.resolution == "" {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// A renewed certificate is read though its file is older than the key's, as where
// it was issued some time before it was put in place.
func TestACertificateOlderThanItsKeyIsReadAnew(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	put := func(file, kind string, der []byte, written time.Time) {
		t.Helper()
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, written, written); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(serial int64, written time.Time) {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			t.Fatal(err)
		}
		put(certFile, "CERTIFICATE", cert, written)
	}
	now := time.Now()
	put(keyFile, "PRIVATE KEY", der, now)
	issue(1, now.Add(-2*time.Hour))
	c, err := newCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	issue(2, now.Add(-time.Hour))
	if got := c.get().Leaf.SerialNumber.Int64(); got != 2 {
		t.Errorf("certificate %d is shown, want the second", got)
	}
}
