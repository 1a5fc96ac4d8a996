package doctor

import "testing"

func TestThePlatformOfPreflight(t *testing.T) {
	for _, tt := range []struct {
		beside  string
		environ map[string]string
		want    Platform
	}{
		{"localhost", nil, Local},
		{"10.0.0.1", map[string]string{"FLY_APP_NAME": "voice"}, Fly},
		{"redis", map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Local},
		{"redis.example", nil, Local},
	} {
		if got := PlatformHere(tt.beside, tt.environ); got != tt.want {
			t.Errorf("beside %s with %v it is %s, want %s", tt.beside, tt.environ, got, tt.want)
		}
	}
}
