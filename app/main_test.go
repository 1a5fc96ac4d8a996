package app

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Fiber's and fasthttp's own, which they start once a process or leave for a while.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).workerFunc"),
	)
}

// outcome is what a command line came to.
type outcome struct {
	status         int
	stdout, stderr string
}

func runMain(environ map[string]string, stdin io.Reader, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	var list []string
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		list = append(list, name+"="+environ[name])
	}
	status := Main(args, list, stdin, &stdout, &stderr)
	return outcome{status, stdout.String(), stderr.String()}
}

// logLine is one line of the log.
type logLine struct {
	Level, Msg, Variable, Cause, Resolution string
	Time                                    string
	Port                                    int
}

func logLines(t *testing.T, out string) (lines []logLine) {
	t.Helper()
	for line := range strings.Lines(out) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q is not a JSON line: %v", line, err)
		}
		if l.Time == "" || l.Level == "" || l.Msg == "" {
			t.Errorf("%q has no time, level or msg", line)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestMainExitStatus(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		status int
		stdout string // a part of it; empty: nothing is written
		stderr string
	}{
		{"help", []string{"help"}, 0, "voxedge say", ""},
		{"--help", []string{"--help"}, 0, "", "voxedge say"},
		{"help of a subcommand", []string{"say", "--help"}, 0, "", "--output"},
		{"version", []string{"version"}, 0, "voxedge ", ""},
		{"an unknown command", []string{"sing"}, 2, "", `"sing"`},
		{"an unknown command, with usage", []string{"sing"}, 2, "", "voxedge dev"},
		{"an unknown flag of the edge", []string{"--port=1"}, 2, "", "--port"},
		{"an unknown flag", []string{"worker", "--port=1"}, 2, "", "--port"},
		{"serve with an argument", []string{"serve", "8080"}, 2, "", `"8080"`},
		{"dev with an argument", []string{"dev", "now"}, 2, "", `"now"`},
		{"worker with an argument", []string{"worker", "tone"}, 2, "", `"tone"`},
		{"say without a text", []string{"say"}, 2, "", "quotes"},
		{"say with two texts", []string{"say", "Hello", "there"}, 2, "", "quotes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := runMain(nil, strings.NewReader(""), tt.args...)
			if got.status != tt.status {
				t.Errorf("the exit status is %d, want %d", got.status, tt.status)
			}
			for _, out := range []struct{ name, got, want string }{{"stdout", got.stdout, tt.stdout}, {"stderr", got.stderr, tt.stderr}} {
				if !strings.Contains(out.got, out.want) || out.want == "" && out.got != "" {
					t.Errorf("%s is %q, want %q in it", out.name, out.got, out.want)
				}
			}
		})
	}
}

// Whoever deploys the edge must learn of all mistakes in one go.
func TestMainTellsAllThatIsWrongWithTheEnvironment(t *testing.T) {
	environ := map[string]string{
		"PORT": "http", "LOG_LEVEL": "loud", "IDLE_TIMEOUT": "5", "REDIS_URL": "localhost", "WORKER_ADDR": "nowhere",
	}
	for _, name := range []string{"serve", "worker"} {
		got := runMain(environ, nil, name)
		if got.status != 2 || got.stderr != "" {
			t.Errorf("%s: the exit status is %d, want 2; stderr %q", name, got.status, got.stderr)
		}
		told := map[string]bool{}
		for _, line := range logLines(t, got.stdout) {
			if line.Level != "ERROR" || line.Cause == "" || line.Resolution == "" {
				t.Errorf("%s: %+v is no error with its cause and resolution", name, line)
			}
			told[line.Variable] = true
		}
		for variable := range environ {
			if !told[variable] {
				t.Errorf("%s: nothing is said of %s", name, variable)
			}
		}
		if len(told) != len(environ) {
			t.Errorf("%s: told of %v, want %v", name, told, environ)
		}
	}
}

// A misspelling alone stops nothing: the variable may be another program's.
func TestMainPointsOutMisspellings(t *testing.T) {
	got := runMain(map[string]string{"MAX_CONECTIONS": "7", "LOG_LEVEL": "loud"}, nil, "serve")
	lines := logLines(t, got.stdout)
	if len(lines) != 2 {
		t.Fatalf("%d lines are logged, want 2: %s", len(lines), got.stdout)
	}
	warning := lines[0]
	if warning.Level != "WARN" || warning.Variable != "MAX_CONECTIONS" || !strings.Contains(warning.Resolution, "MAX_CONNECTIONS") {
		t.Errorf("the first line is %+v, want a warning that names both", warning)
	}
}
