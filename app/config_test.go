package app

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// badValues are values that a text variable refuses. A variable of which all
// texts are good stands here with none.
var badValues = map[string][]string{
	"API_KEYS":               {",", " ", "app", "app:abc", "app:" + strings.Repeat("g", 64), "a:" + strings.Repeat("0", 64) + ",b:" + strings.Repeat("0", 64)},
	"JWT_SECRET":             {"short"},
	"JWT_JWKS_URL":           {"keys.json", "ftp://issuer/keys"},
	"JWT_AUDIENCE":           {"voxedge"},
	"JWT_ISSUER":             {"https://issuer.example.com"},
	"ALLOWED_ORIGINS":        {"app.example.com", "https://app.example.com/", "https://a*b.com", "https://*"},
	"TRUSTED_PROXIES":        {"proxy", "10.0.0.0/33", "10.0.0"},
	"TLS_CERT_FILE":          {"cert.pem"},
	"TLS_KEY_FILE":           {},
	"WORKER_TLS_CA":          {},
	"WORKER_TLS_CERT":        {"cert.pem"},
	"WORKER_TLS_KEY":         {},
	"WORKER_TLS_SERVER_NAME": {"workers.internal"},
	"RUN_DIR":                {"x", "./run"},
	"HOST":                   {"edge.example.com", "127.0.0.1:80", "0.0.0.0/0"},
	"HEALTH_HOST":            {"nowhere", "256.0.0.1"},
	"SESSION_REDIS_URL":      {"localhost", "http://localhost", "off"},
	"WORKER_HOST":            {"nowhere", "::1]"},
	"LOG_LEVEL":              {"loud", "INFO", "warning"},
	"REDIS_URL":              {"localhost", "http://localhost", "redis://localhost/zero", "OFF"},
	"WORKER_ADDR":            {"nowhere", "grpc://", ":50051", "a:1,,b:2", "http://a:1", "a:1/x", "a:99999"},
	"ROUTING_STRATEGY":       {"fastest", "Random"},
	"WORKER_ENGINE":          {"piper", "Tone"},
	"WORKER_ADVERTISE":       {"nowhere", "grpc://a", "a:99999"},
	"WORKER_NAME":            {},
}

func TestDefaultsAreValid(t *testing.T) {
	cfg, problems := LoadConfig(nil)
	for _, p := range problems {
		t.Errorf("by default: %s", p)
	}
	if cfg.Port != 8080 || cfg.HealthPort != 8081 || cfg.RedisURL != "redis://localhost:6379" || cfg.MaxConnections != 100 {
		t.Errorf("the defaults are not those of the design: %+v", cfg)
	}
	empty := map[string]string{}
	for _, v := range cfg.variables() {
		empty[v.name] = ""
	}
	got, problems := LoadConfig(empty)
	if len(problems) > 0 || got != cfg {
		t.Errorf("empty variables are not the defaults: %+v, %v", got, problems)
	}
}

// A URL that is wrong may hold a password all the same.
func TestProblemsKeepTheIssuersSecrets(t *testing.T) {
	for _, address := range []string{"ftp://user:hunter2@issuer/keys", "https://user:hunter2@issuer:port/keys", "https:///keys?key=hunter2"} {
		_, problems := LoadConfig(map[string]string{"JWT_JWKS_URL": address})
		if len(problems) != 1 || strings.Contains(problems[0].String(), "hunter") {
			t.Errorf("%v", problems)
		}
	}
}

func TestEveryBadValueIsNamed(t *testing.T) {
	for _, v := range new(Config).variables() {
		var bad []string
		switch v.value.(type) {
		case int:
			bad = []string{"many", "-1", "1.5", "0x10", "8080 ", "99999999999999999999", "2147483648"}
		case bool:
			bad = []string{"maybe", "yes", "2"}
		case time.Duration:
			bad = []string{"soon", "5", "-1s", "1 s", "9999999h"}
			if !zeroIsNoLimit[v.name] {
				bad = append(bad, "0", "0s")
			}
		default:
			var ok bool
			if bad, ok = badValues[v.name]; !ok {
				t.Errorf("the test knows no bad value of %s", v.name)
			}
		}
		for _, value := range bad {
			_, problems := LoadConfig(map[string]string{v.name: value})
			if len(problems) == 0 {
				t.Errorf("%s=%q was accepted", v.name, value)
			}
			for _, p := range problems {
				if p.Name != v.name || p.Cause == "" || p.Resolution == "" {
					t.Errorf("%s=%q: %s", v.name, value, p)
				}
			}
		}
	}
}

// What is not read is zero, and must not be found fault with once more for that.
func TestValueThatCannotBeReadIsOneProblem(t *testing.T) {
	for _, v := range new(Config).variables() {
		if _, text := badValues[v.name]; text {
			continue
		}
		if _, problems := LoadConfig(map[string]string{v.name: "x"}); len(problems) != 1 {
			t.Errorf("%s=x is told of %d times: %v", v.name, len(problems), problems)
		}
	}
}

func TestWholeNumbersHaveBounds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value string
		ok    bool
	}{
		{"PORT", "0", true}, {"PORT", "65535", true}, {"PORT", "65536", false},
		{"HEALTH_PORT", "0", true}, {"WORKER_PORT", "65536", false},
		{"MAX_CONNECTIONS", "1", true}, {"MAX_CONNECTIONS", "0", false},
		{"MAX_MESSAGES_PER_SESSION", "0", true}, {"WORKER_MAX_SESSIONS", "0", true},
		{"FRAME_QUEUE_SIZE", "10", true}, {"FRAME_QUEUE_SIZE", "3000", true}, {"FRAME_QUEUE_SIZE", "3001", false},
		{"MAX_MESSAGE_BYTES", "1024", true}, {"MAX_MESSAGE_BYTES", "1023", false}, {"MAX_MESSAGE_BYTES", "16777217", false},
		{"MAX_QUEUED_UTTERANCES", "0", false}, {"MAX_UTTERANCE_CHARS", "0", false},
	} {
		_, problems := LoadConfig(map[string]string{tt.name: tt.value})
		if ok := len(problems) == 0; ok != tt.ok {
			t.Errorf("%s=%s is accepted: %t, want %t", tt.name, tt.value, ok, tt.ok)
		}
	}
}

func TestZeroIsNoLimitWhereItSaysSo(t *testing.T) {
	for name := range zeroIsNoLimit {
		if _, problems := LoadConfig(map[string]string{name: "0"}); len(problems) > 0 {
			t.Errorf("%s=0: %v", name, problems)
		}
	}
	for _, v := range new(Config).variables() {
		if _, ok := v.value.(time.Duration); ok && strings.Contains(v.doc, "0:") != zeroIsNoLimit[v.name] {
			t.Errorf("what is documented of %s=0 is not what is done", v.name)
		}
	}
}

func problemNames(problems []Problem) []string {
	names := map[string]bool{}
	for _, p := range problems {
		names[p.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

func TestProblemsOfSeveralVariables(t *testing.T) {
	tests := []struct {
		name    string
		environ map[string]string
		want    []string
	}{
		{"all at once", map[string]string{"PORT": "http", "HEALTH_PORT": "70000", "IDLE_TIMEOUT": "5", "LOG_LEVEL": "loud", "HOST": "?"},
			[]string{"HEALTH_PORT", "HOST", "IDLE_TIMEOUT", "LOG_LEVEL", "PORT"}},
		{"no Redis, as a worker may", map[string]string{"REDIS_URL": "off"}, nil},
		{"no Redis but a worker", map[string]string{"REDIS_URL": "off", "WORKER_ADDR": "grpc://worker:50051, other:50052"}, nil},
		{"a queue shorter than the lead", map[string]string{"FRAME_QUEUE_SIZE": "9"}, []string{"FRAME_QUEUE_SIZE"}},
		{"a queue as long as the lead", map[string]string{"FRAME_QUEUE_SIZE": "10"}, nil},
		{"a lead longer than the queue", map[string]string{"PACING_LEAD": "2s"}, []string{"FRAME_QUEUE_SIZE"}},
		{"a switch that is neither on nor off", map[string]string{"IO_URING": "maybe"}, []string{"IO_URING"}},
		{"frames in threes", map[string]string{"PACING_INTERVAL": "60ms"}, nil},
		{"an interval that is no whole frames", map[string]string{"PACING_INTERVAL": "50ms"}, []string{"PACING_INTERVAL"}},
		{"no interval", map[string]string{"PACING_INTERVAL": "0s"}, []string{"PACING_INTERVAL"}},
		{"an interval of more frames than may be", map[string]string{"PACING_INTERVAL": "80ms"}, []string{"PACING_INTERVAL"}},
		{"an interval that takes most of the lead", map[string]string{"PACING_INTERVAL": "40ms", "PACING_LEAD": "60ms"}, []string{"PACING_INTERVAL"}},
		{"the least lead", map[string]string{"PACING_LEAD": "40ms"}, nil},
		{"a lead of one frame", map[string]string{"PACING_LEAD": "20ms"}, []string{"PACING_LEAD"}},
		{"a queue that cannot be read", map[string]string{"FRAME_QUEUE_SIZE": "x", "PACING_LEAD": "2s"}, []string{"FRAME_QUEUE_SIZE"}},
		{"equal ports", map[string]string{"PORT": "9000", "HEALTH_PORT": "9000"}, []string{"HEALTH_PORT"}},
		{"the health port's default as port", map[string]string{"PORT": "8081"}, []string{"HEALTH_PORT"}},
		{"two free ports", map[string]string{"PORT": "0", "HEALTH_PORT": "0"}, nil},
		{"what OpenTelemetry would pass over", map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_TRACES_SAMPLER": "sometimes",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4317", "OTEL_TRACES_EXPORTER": "zipkin"},
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER"}},
		{"what OpenTelemetry would say in its own words", map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "10s", "OTEL_EXPORTER_OTLP_HEADERS": "abc",
			"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nonexistent", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:99999"},
			[]string{"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}},
		{"a ratio that is no number", map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "NaN"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"a ratio that is none", map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1%"}, []string{"OTEL_TRACES_SAMPLER_ARG"}},
		{"other people's variables", map[string]string{"PATH": "/bin", "HOSTNAME": "x", "OTEL_SERVICE_NAME": "x", "": ""}, nil},
	}
	for _, tt := range tests {
		_, problems := LoadConfig(tt.environ)
		if got := problemNames(problems); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the problems are of %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A worker at a fixed address needs neither; an edge would know none.
func TestAnEdgeNeedsAWayToItsWorkers(t *testing.T) {
	for _, test := range []struct {
		environ map[string]string
		want    []string
	}{
		{map[string]string{"REDIS_URL": "off"}, []string{"WORKER_ADDR"}},
		{map[string]string{"REDIS_URL": "off", "WORKER_ADDR": "worker:50051"}, nil},
		{nil, nil},
	} {
		cfg, _ := LoadConfig(test.environ)
		if got := problemNames(cfg.checkServe()); !slices.Equal(got, test.want) {
			t.Errorf("%v: the problems are of %q, want %q", test.environ, got, test.want)
		}
	}
}

// Kubernetes sets WORKER_PORT when there is a service named worker: nobody who
// reads "not a whole number" would think of that.
func TestServiceLinkIsExplained(t *testing.T) {
	for _, name := range []string{"WORKER_PORT", "HEALTH_PORT"} {
		_, problems := LoadConfig(map[string]string{name: "tcp://10.0.0.7:50051"})
		if len(problems) != 1 {
			t.Fatalf("%s: the problems are %v, want one", name, problems)
		}
		p := problems[0]
		if p.Name != name || !strings.Contains(p.Cause, "Kubernetes") || !strings.Contains(p.Resolution, "enableServiceLinks") {
			t.Errorf("%s: it says %s", name, p)
		}
	}
}

// A password in a URL is not for the log.
func TestBadRedisURLIsNotRepeated(t *testing.T) {
	_, problems := LoadConfig(map[string]string{"REDIS_URL": "redis//user:hunter2@redis:6379"})
	if len(problems) != 1 || strings.Contains(problems[0].String(), "hunter2") {
		t.Errorf("it says %v", problems)
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add(uint8(1), "8080", uint8(3), "tcp://10.0.0.1:80")
	f.Add(uint8(17), "999999h", uint8(16), "-5")
	f.Add(uint8(5), "redis://:@/%zz", uint8(6), ",,")
	f.Add(uint8(5), "off", uint8(6), "[::1]:50051")
	f.Fuzz(func(t *testing.T, first uint8, value string, second uint8, other string) {
		known := new(Config).variables()
		names := map[string]bool{}
		for _, v := range known {
			names[v.name] = true
		}
		environ := map[string]string{
			known[int(first)%len(known)].name:  value,
			known[int(second)%len(known)].name: other,
		}
		_, problems := LoadConfig(environ)
		for _, p := range problems {
			if !names[p.Name] || p.Cause == "" || p.Resolution == "" {
				t.Errorf("%q: %s", environ, p)
			}
		}
	})
}
