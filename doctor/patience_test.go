package doctor

import (
	"testing"
	"time"
)

func TestPatienceIsThatOfTheWay(t *testing.T) {
	edge, proxy := &Process{Command: "voxedge serve"}, &Process{line: "/usr/sbin/nginx"}
	for _, tt := range []struct {
		name string
		e    examination
		want time.Duration
	}{
		{"an edge here", examination{here: true, holder: edge, dialed: time.Millisecond}, answerTimeout},
		{"an edge here, and slow", examination{here: true, holder: edge, dialed: 300 * time.Millisecond}, 2400 * time.Millisecond},
		{"an edge here, and as slow as can be", examination{here: true, holder: edge, dialed: time.Second}, longestAnswer},
		{"a proxy here", examination{here: true, holder: proxy, dialed: time.Millisecond}, longestAnswer},
		{"what cannot be seen", examination{here: true, dialed: time.Millisecond}, longestAnswer},
		{"far away", examination{dialed: time.Millisecond}, longestAnswer},
		{"far away, after a long search", examination{began: time.Now().Add(-3 * time.Second)}, 1800 * time.Millisecond},
		{"far away, after a long search that was answered", examination{began: time.Now().Add(-3 * time.Second), spoken: true}, longestAnswer},
	} {
		if tt.e.began.IsZero() {
			tt.e.began = time.Now()
		}
		if got := tt.e.patience(); (got - tt.want).Abs() > 100*time.Millisecond {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
