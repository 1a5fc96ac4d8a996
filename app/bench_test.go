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
		{[]string{"--rounds", "0"}, "--rounds cannot be 0"},
		{[]string{"--rounds", "100000"}, "Give 1 to 1000"},
		{[]string{"--sessions", "0"}, "--sessions cannot be 0"},
		{[]string{"--sessions", "5,-1"}, "--sessions cannot be -1"},
		{[]string{"--sessions", "5,99999999"}, "Give 1 to 20000"},
		{[]string{"--sessions="}, "--sessions"},
		{[]string{"--idle", "99999999"}, "Give 1 to 10000"},
		{[]string{"--window", "1ns"}, "Give 100ms to 1h"},
		{[]string{"--window", "5"}, "Put --help behind"},
		{[]string{"5"}, "takes no"},
		{[]string{"--sessions", "5,5", "--out", t.TempDir()}, "two numbers"},
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
