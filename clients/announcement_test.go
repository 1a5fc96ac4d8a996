package clients

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestParseAddr(t *testing.T) {
	good := []struct{ s, want string }{
		{"localhost:50051", "localhost:50051"},
		{"grpc://localhost:50051", "localhost:50051"},
		{"grpc://10.0.0.7:1", "10.0.0.7:1"},
		{" grpc://w:50051\n", "w:50051"},
		{"grpc://[::1]:65535", "[::1]:65535"},
		{"[fe80::1%eth0]:50051", "[fe80::1%eth0]:50051"},
		{"worker.tts.svc.local:8443", "worker.tts.svc.local:8443"},
	}
	for _, tt := range good {
		if addr, err := ParseAddr(tt.s); err != nil || addr != tt.want {
			t.Errorf("ParseAddr(%q) is %q, %v; want %q", tt.s, addr, err, tt.want)
		}
	}
	bad := []string{
		"", " ", "grpc://", "localhost", "localhost:", ":50051", "grpc://:50051", "http://localhost:50051", "grpc://localhost:50051/",
		"grpc://localhost:50051/path", "::1:50051", "grpc://grpc://localhost:50051", "local host:50051", "localhost:50051,other:50051",
		"localhost:http", "localhost:0", "localhost:-1", "localhost:65536",
	}
	for _, s := range bad {
		if addr, err := ParseAddr(s); err == nil {
			t.Errorf("ParseAddr(%q) is %q, want an error", s, addr)
		} else if !strings.Contains(err.Error(), "grpc://host:port") {
			t.Errorf("ParseAddr(%q): %q does not say what is right", s, err)
		}
	}
}

// A name is a metric's label, and in every log line.
func TestNamesAreText(t *testing.T) {
	for _, name := range []string{"\xff\xfe", strings.Repeat("a", maxName+1), "a\x1b[2J"} {
		if a, err := ParseAnnouncement([]byte(`{"addr":"grpc://a:1"}`), name); err == nil {
			t.Errorf("%q is taken: %+v", name, a)
		}
	}
}

func TestStaticWorkers(t *testing.T) {
	tests := []struct {
		addrs string
		want  []string // nil: refused
	}{
		{"localhost:50051", []string{"localhost:50051"}},
		{"grpc://a:1,b:2, grpc://c:3", []string{"a:1", "b:2", "c:3"}},
		{"", nil},
		{"a:1,", nil},
		{"a:1,,b:2", nil},
		{"a:1 b:2", nil},
		{"a:1,b", nil},
	}
	for _, tt := range tests {
		all, err := StaticWorkers(tt.addrs)
		if (err != nil) != (tt.want == nil) {
			t.Errorf("%q: %v", tt.addrs, err)
		}
		var got []string
		for _, a := range all {
			got = append(got, a.Addr)
			if a.Name != a.Addr || a.Capabilities != nil {
				t.Errorf("%q: the worker is %+v", tt.addrs, a)
			}
		}
		if err == nil && !slices.Equal(got, tt.want) {
			t.Errorf("%q: the addresses are %q, want %q", tt.addrs, got, tt.want)
		}
	}
}

// As the older system's workers write it.
const compatible = `{
	"name": "piper-1", "addr": "grpc://10.0.0.7:50051",
	"capabilities": {"streaming": true, "zero_shot": false, "lora": false, "cpu_ok": true, "languages": ["en", "de"],
		"emotive_zero_prompt": false, "max_concurrent_sessions": 8},
	"resident_models": ["piper-en"], "metrics": {"rtf": 0.2, "queue_depth": 3, "device": "cpu", "warm": true, "gpu": null},
	"last_heartbeat_ts": 1700000000, "something_new": {}
}`

func TestParseAnnouncement(t *testing.T) {
	a, err := ParseAnnouncement([]byte(compatible), "key")
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "piper-1" || a.Addr != "10.0.0.7:50051" || a.LastHeartbeat != 1_700_000_000 || !slices.Equal(a.ResidentModels, []string{"piper-en"}) {
		t.Errorf("it is %+v", a)
	}
	if !maps.Equal(a.Metrics, Metrics{"rtf": 0.2, "queue_depth": 3}) {
		t.Errorf("the metrics are %v, want the numbers", a.Metrics)
	}
	c := a.Capabilities
	if !c.GetStreaming() || c.GetZeroShot() || !c.GetCpuOk() || c.GetMaxConcurrentSessions() != 8 || c.GetSessionControl() || !slices.Equal(c.GetLanguages(), []string{"en", "de"}) {
		t.Errorf("the capabilities are %v", c)
	}
}

func TestParseAnnouncementOfOneThatSaysLittle(t *testing.T) {
	a, err := ParseAnnouncement([]byte(`{"addr":"w:1","metrics":null,"resident_models":null,"last_heartbeat_ts":1700000000.25}`), "key")
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "key" || a.Addr != "w:1" || a.Capabilities != nil || len(a.Metrics) != 0 || a.LastHeartbeat != 1_700_000_000.25 {
		t.Errorf("it is %+v", a)
	}
}

func TestParseAnnouncementRefuses(t *testing.T) {
	for _, data := range []string{
		"", "{", "null", "[]", `"grpc://w:1"`, "{}", `{"addr":""}`, `{"addr":"w"}`, `{"addr":"http://w:1"}`, `{"addr":1}`,
		`{"addr":"w:1","metrics":[]}`, `{"addr":"w:1","capabilities":{"languages":"en"}}`, `{"addr":"w:1"} x`,
	} {
		if a, err := ParseAnnouncement([]byte(data), "key"); err == nil {
			t.Errorf("%s was read as %+v", data, a)
		}
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	f.Add([]byte(compatible), "piper-1")
	f.Add([]byte(`{"addr":"[::1]:50051"}`), "w")
	f.Add([]byte(`{"addr":"grpc://w:1","metrics":{"a":1e400}}`), "")
	f.Add([]byte(`null`), "w")
	f.Add([]byte(`{"name":"x","addr":"\u0000:1"}`), "w")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		a, err := ParseAnnouncement(data, name)
		if err != nil {
			return
		}
		if a.Name == "" && name != "" {
			t.Error("it has no name")
		}
		host, port, err := net.SplitHostPort(a.Addr)
		if err != nil || host == "" || port == "" {
			t.Errorf("the address %q is not host:port: %v", a.Addr, err)
		}
		if again, err := ParseAddr(a.Addr); err != nil || again != a.Addr {
			t.Errorf("the address %q reads as %q, %v", a.Addr, again, err)
		}
	})
}
