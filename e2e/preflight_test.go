package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/voxedge/voxedge/doctor"
)

// preflight runs it with the environment.
func preflight(t *testing.T, env ...string) (r doctor.Report, exit int) {
	t.Helper()
	cmd := exec.Command(binary, "preflight", "--json")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}, env...)
	out, _ := cmd.Output()
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("preflight said %q", out)
	}
	return r, cmd.ProcessState.ExitCode()
}

func TestPreflight(t *testing.T) {
	s := &scene{T: t}
	s.around("w1")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	s.tellRedis("ACL", "SETUSER", "blind", "on", ">secret", "~*", "&*", "+@all", "-scan")
	s.tellRedis("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-@write")
	well := []string{"HOST=127.0.0.1", fmt.Sprint("PORT=", freePort(t)), "HEALTH_HOST=127.0.0.1", fmt.Sprint("HEALTH_PORT=", freePort(t)), "REDIS_URL=" + s.redis.url()}
	for _, test := range []struct {
		name     string
		env      []string
		cause    doctor.Cause
		evidence string
	}{
		{"all is there", nil, doctor.Cause{}, ""},
		{"the port is taken", []string{fmt.Sprint("PORT=", taken.Addr().(*net.TCPAddr).Port)}, doctor.PortTaken, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"the health port is Redis'", []string{fmt.Sprint("HEALTH_PORT=", s.redis.port)}, doctor.PortTaken, "redis-server"},
		{"more connections than files", []string{"MAX_CONNECTIONS=100000000"}, doctor.FewDescriptors, "MAX_CONNECTIONS=100000000"},
		{"no Redis", []string{fmt.Sprint("REDIS_URL=redis://127.0.0.1:", freePort(t))}, doctor.RedisClosed, "refused"},
		{"no Redis for sessions", []string{fmt.Sprint("SESSION_REDIS_URL=redis://127.0.0.1:", freePort(t))}, doctor.RedisClosed, "correct SESSION_REDIS_URL"},
		{"a Redis that may not be searched", []string{"REDIS_URL=redis://blind:secret@" + s.redis.addr()}, doctor.RedisError, "NOPERM"},
		{"a Redis that may not be written", []string{"REDIS_URL=redis://reader:secret@" + s.redis.addr()}, doctor.RedisError, "NOPERM"},
		{"no Redis on Fly.io", []string{fmt.Sprint("REDIS_URL=redis://127.0.0.1:", freePort(t)), "FLY_APP_NAME=voice"}, doctor.RedisClosed, "-a voice"},
		{"no worker there", []string{fmt.Sprint("WORKER_ADDR=127.0.0.1:", freePort(t))}, doctor.WorkerClosed, "refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, exit := preflight(t, append(well, test.env...)...)
			if got.Cause != test.cause.ID || exit != test.cause.Status || got.OK != (exit == 0) {
				t.Fatalf("the verdict is %s, exit status %d; want %s\n%s", got.Cause, exit, test.cause.ID, show(got))
			}
			if !strings.Contains(show(got), test.evidence) {
				t.Errorf("%s\ndoes not say %q", show(got), test.evidence)
			}
		})
	}
	got, exit := preflight(t, append(well, fmt.Sprint("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:", freePort(t)))...)
	if exit != 0 || !strings.Contains(show(got), doctor.CollectorUnanswered.Title) {
		t.Errorf("a collector that is away is no reason not to start, and worth a word: exit status %d\n%s", exit, show(got))
	}
}

// The next edge says how the one before it ended, and the doctor knows when it
// did so in peace.
func TestTheNextEdgeTellsHowTheLastEnded(t *testing.T) {
	s := &scene{T: t}
	s.whole()
	s.served.kill()
	line := s.edge().await(1, "the edge before this one was not stopped")
	if !strings.Contains(fmt.Sprint(line["cause"]), "killed") || line["resolution"] == "" {
		t.Errorf("it says %v", line)
	}
	s.served.stop()
	if out := s.edge().output(); strings.Contains(out, "was not stopped") {
		t.Errorf("an edge that was stopped: %s", out)
	}
}
