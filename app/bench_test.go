package app

import (
	"strings"
	"testing"
)

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--interval", "50ms"}, "Give 20ms, 40ms or 60ms"},
		{[]string{"--interval", "40ms", "--out", t.TempDir()}, "Leave out --out"},
		{[]string{"--only", "idle", "--out", t.TempDir()}, "Leave out --out"},
		{[]string{"--rounds", "0"}, "--help"},
	} {
		got := runMain(nil, nil, append([]string{"bench"}, test.args...)...)
		if got.status != exitUsage || !strings.Contains(got.stderr, test.want) {
			t.Errorf("%q: the exit status is %d: %s", test.args, got.status, got.stderr)
		}
	}
}
