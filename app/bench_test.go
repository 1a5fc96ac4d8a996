package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--interval", "50ms"}, "Give 20ms, 40ms or 60ms"},
		{[]string{"--interval", "40ms", "--out", t.TempDir()}, "Leave out --out"},
		{[]string{"--only", "idle", "--out", t.TempDir()}, "Leave out --out"},
		{[]string{"--rounds", "0"}, "--help"},
		{[]string{"--sessions", "0"}, "--help"},
		{[]string{"--sessions", "5,-1"}, "--help"},
		{[]string{"--sessions", "5", "--out", t.TempDir()}, "two numbers"},
		{[]string{"--only", "nothing like it"}, "Name one of the table"},
		{[]string{"--out", filepath.Join(file, "below")}, "Name a directory"},
	} {
		got := runMain(nil, nil, append([]string{"bench"}, test.args...)...)
		if got.status != exitUsage || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%q: the exit status is %d: %s", test.args, got.status, got.stderr)
		}
	}
}
