package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/voxedge/voxedge/doctor"
)

func TestHealthcheck(t *testing.T) {
	r := startEdge(t, nil)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ask := func(environ map[string]string, args ...string) outcome {
		return runMain(environ, nil, append([]string{"healthcheck"}, args...)...)
	}
	edgeAt := map[string]string{"HEALTH_PORT": strconv.Itoa(portOf(r.edge.private))}
	workerAt := map[string]string{"WORKER_PORT": strings.TrimPrefix(r.edge.cfg.WorkerAddr, "127.0.0.1:")}
	nowhere := map[string]string{"HEALTH_PORT": "1", "WORKER_PORT": "1"}

	tests := []struct {
		name    string
		environ map[string]string
		args    []string
		status  int
	}{
		{"an edge that is ready", edgeAt, nil, exitOK},
		{"a worker that serves", workerAt, []string{"--worker"}, exitOK},
		{"no edge", nowhere, nil, exitFailed},
		{"no worker", nowhere, []string{"--worker"}, exitFailed},
		{"the worker's port for the edge's", map[string]string{"HEALTH_PORT": workerAt["WORKER_PORT"]}, nil, exitFailed},
		{"a bad environment", map[string]string{"HEALTH_PORT": "x"}, nil, exitUsage},
		{"an unknown flag", nil, []string{"--edge"}, exitUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ask(tt.environ, tt.args...)
			if got.status != tt.status {
				t.Errorf("the exit status is %d, want %d: %s", got.status, tt.status, got.stderr)
			}
			if (got.stderr == "") != (tt.status == exitOK) {
				t.Errorf("it says %q", got.stderr)
			}
		})
	}
}

func TestHealthcheckAsksWhereTheEdgeListens(t *testing.T) {
	for host, want := range map[string]string{"0.0.0.0": "127.0.0.1:1", "::": "[::1]:1", "127.0.0.2": "127.0.0.2:1", "::1": "[::1]:1", "localhost": "localhost:1"} {
		if got := loopback(host, 1); got != want {
			t.Errorf("%s is reached at %s, want %s", host, got, want)
		}
	}
}

func TestTheDoctorLooksWhereTheEnvironmentSays(t *testing.T) {
	for _, tt := range []struct {
		environ map[string]string
		want    string
	}{
		{nil, "ws://localhost:8080/v1/stream"},
		{map[string]string{"HOST": "0.0.0.0", "PORT": "9000"}, "ws://localhost:9000/v1/stream"},
		{map[string]string{"HOST": "::"}, "ws://localhost:8080/v1/stream"},
		{map[string]string{"HOST": "::1"}, "ws://[::1]:8080/v1/stream"},
		{map[string]string{"HOST": "10.1.2.3", "TLS_CERT_FILE": "cert.pem"}, "wss://10.1.2.3:8080/v1/stream"},
	} {
		if got := (command{environ: tt.environ}).localURL(); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.environ, got, tt.want)
		}
	}
}

// An environment that no edge starts with is the cause, and not the URL made of it.
func TestTheDoctorOfAnInvalidEnvironment(t *testing.T) {
	got := runMain(map[string]string{"PORT": "80a", "JWT_JWKS_URL": "ftp://u:hunter2@host"}, nil, "doctor")
	if got.status != doctor.ConfigInvalid.Status || !strings.Contains(got.stdout, "Correct PORT, JWT_JWKS_URL") || !strings.Contains(got.stdout, "80a") || strings.Contains(got.stdout, "hunter2") {
		t.Errorf("exit status %d: %s", got.status, got.stdout)
	}
	if got := runMain(map[string]string{"PORT": "80a"}, nil, "doctor", "ws://127.0.0.1:1"); got.status == doctor.ConfigInvalid.Status {
		t.Errorf("a URL that is not of the environment: %s", got.stdout)
	}
}

func TestHealthcheckOfAnEdgeThatIsNotReady(t *testing.T) {
	cfg := settings(t, nil) // its worker is nowhere
	e, err := newEdge(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, "the edge", e.run)
	defer stop()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	got := runMain(map[string]string{"HEALTH_PORT": fmt.Sprint(portOf(e.private))}, nil, "healthcheck")
	if got.status != exitFailed || !strings.Contains(got.stderr, "not ready") {
		t.Errorf("the exit status is %d: %s", got.status, got.stderr)
	}
}
