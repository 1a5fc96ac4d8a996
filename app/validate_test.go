package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name    string
		environ map[string]string
		file    string // of NAME=value lines, in place of the environment
		status  int
		says    []string
	}{
		{"nothing set", nil, "", 0, []string{"is valid"}},
		{"all at once", map[string]string{"PORT": "x", "IDLE_TIMEOUT": "5", "MAX_CONECTIONS": "3"}, "", 2, []string{"PORT", "IDLE_TIMEOUT", "MAX_CONECTIONS", "much like MAX_CONNECTIONS", "3 to correct"}},
		{"an edge without a way to workers", map[string]string{"REDIS_URL": "off"}, "", 2, []string{"WORKER_ADDR"}},
		{"a queue shorter than the lead", map[string]string{"FRAME_QUEUE_SIZE": "2"}, "", 2, []string{"FRAME_QUEUE_SIZE", "PACING_LEAD"}},
		{"a drain longer than the platform waits", map[string]string{"KILL_TIMEOUT": "10s"}, "", 2, []string{"SHUTDOWN_TIMEOUT", "KILL_TIMEOUT"}},
		{"a drain longer than Fly.io waits", map[string]string{"FLY_APP_NAME": "voice"}, "", 2, []string{"SHUTDOWN_TIMEOUT", "kill_timeout in fly.toml"}},
		{"a drain that the platform waits for", map[string]string{"FLY_APP_NAME": "voice", "KILL_TIMEOUT": "20s"}, "", 0, []string{"is valid"}},
		{"a drain that Kubernetes waits for", map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "", 0, []string{"is valid"}},
		{"a good file", nil, "# ours\nexport PORT=9000\nLOG_LEVEL='debug' # loud\n\nHOST=\"0.0.0.0\"\n", 0, []string{"is valid"}},
		{"a bad file", map[string]string{"PORT": "x"}, "PORT=80a\nREDIS_URL=redis//u:hunter2@r\n", 2, []string{`"80a"`, "REDIS_URL", "2 to correct"}},
		{"secrets in other URLs", map[string]string{
			"WORKER_ADDR": "grpc://hunter2@host", "JWT_JWKS_URL": "ftp://u:hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2@host", "ALLOWED_ORIGINS": "https://u:hunter2@host",
			"TRUSTED_PROXIES": "http://hunter2@10.0.0.1", "HOST": "u:hunter2@host",
		}, "", 2, []string{"WORKER_ADDR", "JWT_JWKS_URL", "ALLOWED_ORIGINS", "TRUSTED_PROXIES", "HOST"}},
		{"a variable twice", nil, "PORT=1\nHOST=::\n\nPORT=2\n", 2, []string{"PORT", "line 4 sets it again, after line 1", "1 to correct"}},
		{"a file of something else", nil, "PORT: 80\nHEALTH_PORT=x\n", 2, []string{"line 1", "NAME=value", "HEALTH_PORT", "2 to correct"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"validate"}
			if tt.file != "" {
				path := filepath.Join(t.TempDir(), "env")
				if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--env-file", path)
			}
			got := runMain(tt.environ, nil, args...)
			if got.status != tt.status {
				t.Errorf("the exit status is %d, want %d", got.status, tt.status)
			}
			for _, part := range tt.says {
				if !strings.Contains(got.stdout, part) {
					t.Errorf("it says %q, want %q in it", got.stdout, part)
				}
			}
			if strings.Contains(got.stdout+got.stderr, "hunter2") {
				t.Error("it shows a password")
			}
		})
	}
	if got := runMain(nil, nil, "validate", "--env-file", "/nowhere/env"); got.status != exitUsage || !strings.Contains(got.stderr, "/nowhere/env") {
		t.Errorf("a file that is not there: %+v", got)
	}
}

func TestValidateTakesNoArgument(t *testing.T) {
	if got := runMain(nil, nil, "validate", ".env"); got.status != exitUsage || !strings.Contains(got.stderr, ".env") || !strings.Contains(got.stderr, "--env-file") {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"preflight", "healthcheck"} {
		if got := runMain(nil, nil, name, "8080"); got.status != exitUsage || !strings.Contains(got.stderr, "takes no argument") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whatever a file holds, nothing panics, and every problem names a variable or a line.
func FuzzParseEnv(f *testing.F) {
	f.Add("PORT=8080\n# x\nexport A='b' # c\n")
	f.Add("=\n'\nA=\"\nB='\n x y=z")
	f.Fuzz(func(t *testing.T, text string) {
		environ, problems, err := parseEnv(strings.NewReader(text))
		if err != nil {
			return // a line longer than is read
		}
		for name := range environ {
			if name == "" || strings.ContainsAny(name, " \t\n=") {
				t.Errorf("%q: a variable %q", text, name)
			}
		}
		_, more := LoadConfig(environ)
		for _, p := range append(problems, more...) {
			if p.Name == "" || p.Cause == "" || p.Resolution == "" {
				t.Errorf("%q: %+v", text, p)
			}
		}
	})
}
