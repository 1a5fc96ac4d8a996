package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate is what is wrong with one; the zero value is good for 127.0.0.1.
type certificate struct {
	name        string
	from, until time.Time
	untrusted   bool
	wanted      bool // of the client too
	client      bool // good for clients too
}

func (c certificate) clientAuth() tls.ClientAuthType {
	if c.wanted {
		return tls.RequireAnyClientCert
	}
	return tls.NoClientCert
}

// make returns the certificate and the file of the authority that is trusted.
func (c certificate) make(t *testing.T) (cert tls.Certificate, authority string) {
	t.Helper()
	root, rootKey := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, nil)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "edge"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if c.client {
		leaf.ExtKeyUsage = append(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if !c.from.IsZero() {
		leaf.NotBefore = c.from
	}
	if !c.until.IsZero() {
		leaf.NotAfter = c.until
	}
	if c.name != "" {
		leaf.IPAddresses, leaf.DNSNames = nil, []string{c.name}
	}
	signer, signerKey := root, rootKey
	if c.untrusted {
		signer, signerKey = nil, nil
	}
	der, key := issue(t, leaf, signer, signerKey)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der.Raw}, PrivateKey: key}, authority
}

// issue signs the template, by itself when there is no signer.
func issue(t *testing.T, template, signer *x509.Certificate, signerKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer, signerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
