package doctor

import (
	"net"
	"os"
	"strconv"
	"testing"
)

// What another edge says of itself is no news of this one.
func TestOnlyTheEdgesOwnHealthIsAsked(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	health := map[string]string{"HEALTH_PORT": port, "HEALTH_HOST": "127.0.0.1"}
	url := "http://127.0.0.1:" + port + "/health"
	for _, tt := range []struct {
		name string
		e    examination
		want string
	}{
		{"the edge's own", examination{here: true, holder: &Process{PID: os.Getpid(), Command: "voxedge", Environ: health}}, url},
		{"another edge's", examination{here: true, holder: &Process{PID: 1, Command: "voxedge", Environ: health}}, ""},
		{"behind a proxy", examination{here: true, host: "127.0.0.1", holder: &Process{PID: 1, Command: "nginx"}}, ""},
		{"behind a proxy, and the environment says", examination{here: true, Options: Options{Environ: health}}, url},
		{"an edge's with the environment", examination{here: true, host: "localhost", Options: Options{OfEnviron: true, Environ: map[string]string{"HEALTH_PORT": "", "HEALTH_HOST": "::"}}}, "http://localhost:8081/health"},
		{"elsewhere", examination{Options: Options{Environ: health}}, ""},
	} {
		if got, why := tt.e.healthBeside(); got != tt.want || (got == "") == (why == "") {
			t.Errorf("%s: %q (%s), want %q", tt.name, got, why, tt.want)
		}
	}
}
