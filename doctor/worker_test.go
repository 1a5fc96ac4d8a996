package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Whatever is wrong with TLS, it is TLS that is named, and the variable.
func TestTLSToWorkers(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	good := x509.NewCertPool()
	good.AddCert(server.Certificate())
	worker := func(with *tls.Config) (addr string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var options []grpc.ServerOption
		if with != nil {
			with.Certificates = server.TLS.Certificates
			options = append(options, grpc.Creds(credentials.NewTLS(with)))
		}
		g := grpc.NewServer(options...)
		healthpb.RegisterHealthServer(g, grpchealth.NewServer())
		done := make(chan error, 1)
		go func() { done <- g.Serve(ln) }()
		t.Cleanup(func() { g.Stop(); <-done })
		return ln.Addr().String()
	}
	for _, tt := range []struct {
		name string
		addr string
		edge *tls.Config
		want Cause
		says string
	}{
		{"all is well", worker(&tls.Config{}), &tls.Config{RootCAs: good}, WorkerWrongService, ""},
		{"an unknown authority", worker(&tls.Config{}), &tls.Config{RootCAs: x509.NewCertPool()}, WorkerTLS, "WORKER_TLS_CA must hold"},
		{"another name", worker(&tls.Config{}), &tls.Config{RootCAs: good, ServerName: "other.test"}, WorkerTLS, "WORKER_TLS_SERVER_NAME must"},
		{"no certificate of the edge", worker(&tls.Config{ClientAuth: tls.RequireAnyClientCert}), &tls.Config{RootCAs: good}, WorkerTLS, "in WORKER_TLS_CERT"},
		{"TLS to plain", worker(nil), &tls.Config{RootCAs: good}, WorkerTLS, "unset WORKER_TLS_CA"},
		{"plain to TLS", worker(&tls.Config{}), nil, WorkerTLS, "so WORKER_TLS_CA must name"},
		{"plain to TLS with certificates of edges", worker(&tls.Config{ClientAuth: tls.RequireAnyClientCert}), nil, WorkerTLS, "so WORKER_TLS_CA must name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cause, _, err := askWorker(t.Context(), tt.addr, tt.edge)
			if cause.ID != tt.want.ID || !strings.Contains(cause.Local, tt.says) {
				t.Errorf("%s, %s (%v); want %s", cause.ID, cause.Local, err, tt.want.ID)
			}
		})
	}
}

// The worker that is well may be the last of many.
func TestOneOfManyWorkersIsWell(t *testing.T) {
	var looks []Step
	for i := range 30 {
		looks = append(looks, Step{Name: fmt.Sprint("worker ", i), Result: Failed, Finding: &Finding{Cause: WorkerClosed.ID}})
	}
	steps := shown(looks, 250)
	if last := steps[len(steps)-1]; len(steps) != maxShown+1 || last.Result != Skipped || !strings.Contains(last.Measured, "250 are announced, 30 were looked at, and 0 are well") {
		t.Errorf("none is well: %d steps, the last is %+v", len(steps), last)
	}
	looks = append(looks, ok("worker 30", "well"))
	if last := shown(looks, 31)[maxShown]; last.Result != OK || !strings.Contains(last.Measured, "and 1 are well") {
		t.Errorf("one is well: %+v", last)
	}
}
