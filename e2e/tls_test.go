package e2e

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/doctor"
)

// files writes the certificate and its key, and returns where.
func (c certificate) files(t *testing.T, dir string) (cert, key, authority string) {
	t.Helper()
	pair, authority := c.make(t)
	der, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "EC PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, authority
}

// wss natively, gRPC with TLS on both sides, and a certificate that is renewed
// while the edge runs.
func TestTLSOnBothSides(t *testing.T) {
	dir := t.TempDir()
	cert, key, authority := certificate{}.files(t, dir)
	workerCert, workerKey, workerAuthority := certificate{client: true}.files(t, t.TempDir())
	inner := []string{"WORKER_TLS_CA=" + workerAuthority, "WORKER_TLS_CERT=" + workerCert, "WORKER_TLS_KEY=" + workerKey}
	s := startSystem(t)
	port := freePort(t)
	s.worker("w1", append(inner, fmt.Sprint("WORKER_PORT=", port))...)
	edge, url := s.edge(append(inner, "TLS_CERT_FILE="+cert, "TLS_KEY_FILE="+key)...)
	edge.await(1, "worker is healthy")
	sc := &scene{T: t, url: strings.Replace(url, "ws:", "wss:", 1) + "/v1/stream", env: []string{"SSL_CERT_FILE=" + authority, "SSL_CERT_DIR=/nowhere"}}
	if got, exit := sc.ask(); exit != 0 {
		t.Errorf("exit status %d\n%s", exit, show(got))
	}
	sc.url = url + "/v1/stream"
	if got, exit := sc.ask(); exit != doctor.PlainToTLS.Status {
		t.Errorf("ws on the port of wss: exit status %d\n%s", exit, show(got))
	}
	check := exec.Command(binary, "healthcheck", "--worker")
	check.Env = append(inner, fmt.Sprint("WORKER_PORT=", port))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}

	_, _, authority = certificate{}.files(t, dir) // renewed
	later := time.Now().Add(time.Minute)
	for _, path := range []string{cert, key} {
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	sc.url = strings.Replace(url, "ws:", "wss:", 1) + "/v1/stream"
	sc.env[0] = "SSL_CERT_FILE=" + authority
	if got, exit := sc.ask("--wait", "20s"); exit != 0 {
		t.Errorf("after the renewal: exit status %d\n%s", exit, show(got))
	}
	edge.await(1, "certificate read anew")
}
