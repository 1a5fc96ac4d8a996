package app

import (
	"bufio"
	"context"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestDevIsReadyToSpeak(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	stdout, w := io.Pipe()
	defer func() { _ = stdout.Close() }()
	stop := background(t, "dev", func(ctx context.Context) error {
		defer func() { _ = w.Close() }()
		return dev(ctx, command{stdout: w, stderr: t.Output(), environ: map[string]string{
			"HOST": "127.0.0.1", "HEALTH_HOST": "127.0.0.1", "PORT": "0", "HEALTH_PORT": "0", "WORKER_ENGINE": "tone",
			// What it provides itself, it does not look for.
			"WORKER_PORT": strconv.Itoa(portOf(held)), "WORKER_ADDR": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1",
		}})
	})
	defer stop()

	// The greeting is what a newcomer pastes from.
	var greeting strings.Builder
	for lines := bufio.NewScanner(stdout); !strings.Contains(greeting.String(), "Ctrl-C") && lines.Scan(); {
		greeting.WriteString(lines.Text() + "\n")
	}
	line := regexp.MustCompile(`voxedge say ".+" --url (ws://localhost:\d+/v1/stream)`).FindStringSubmatch(greeting.String())
	if line == nil {
		t.Fatalf("the greeting has no line to speak with:\n%s", greeting.String())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()

	r := &running{t: t, url: line[1]}
	_, sound := r.sayToFile(nil, "Hello from voxedge.")
	checkSound(t, sound, tone(440, len("Hello from voxedge.")))
	stop()
}
