package middleware

import (
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	allowed, err := ParseOrigins("https://app.example.com, https://*.example.org,http://localhost:3000")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		origin string
		want   bool
	}{
		{"", true}, // no browser
		{"https://app.example.com", true},
		{"HTTPS://App.Example.com", true},
		{"http://app.example.com", false},
		{"https://app.example.com:8443", false},
		{"https://evil.example.com", false},
		{"https://app.example.com.evil.net", false},
		{"https://a.example.org", true},
		{"https://a.b.example.org", true},
		{"https://example.org", false},
		{"https://evilexample.org", false},
		{"https://.example.org", false},
		{"http://a.example.org", false},
		{"http://localhost:3000", true},
		{"http://localhost:3001", false},
		{"https://edge.example.net", true}, // the edge's own host
		{"https://edge.example.net:444", false},
		{"https://evil.net/.example.org", false},
		{"https://evil.net?.example.org", false},
		{"https://evil.net#.example.org", false},
		{"https://evil.net@a.example.org", false},
		{"https://app.example.com/", false},
		{"null", false},
		{"file://", false},
	} {
		if got := allowed.Allow(test.origin, "edge.example.net"); got != test.want {
			t.Errorf("%q is allowed: %t", test.origin, got)
		}
	}
	for _, text := range []string{"app.example.com", "https://", "https://a.*.com", "https://*", "https://**.com", "https://a.com/", "https://u@a.com", "null"} {
		if got, err := ParseOrigins(text); err == nil {
			t.Errorf("%q passed as %q", text, got)
		}
	}
	if usual, err := ParseOrigins("HTTPS://App.Example.com:443"); err != nil || !usual.Allow("https://app.example.com", "edge") {
		t.Errorf("an origin in another spelling is %q, %v", usual, err)
	}
	if !(Origins{"*"}).Allow("https://anyone.net", "edge") || (Origins{}).Allow("https://anyone.net", "edge") {
		t.Error("* allows all, and nothing allows none")
	}
}

func FuzzOrigins(f *testing.F) {
	f.Add("https://*.example.org,*", "https://a.example.org", "edge")
	f.Add("https://app.example.org", "", "edge")
	f.Fuzz(func(t *testing.T, list, origin, host string) {
		allowed, err := ParseOrigins(list)
		if err != nil {
			return
		}
		for _, o := range allowed {
			if o == "*" {
				return
			}
		}
		if origin == "" || !allowed.Allow(origin, host) {
			return
		}
		_, name, _ := strings.Cut(strings.ToLower(origin), "://")
		for _, o := range append(allowed, "x://"+strings.ToLower(host)) {
			_, suffix, _ := strings.Cut(o, "://")
			if strings.HasSuffix(name, strings.TrimPrefix(suffix, "*")) {
				return
			}
		}
		t.Errorf("%q at %q lets %q in", list, host, origin)
	})
}
