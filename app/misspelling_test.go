package app

import (
	"strings"
	"testing"
)

func TestMisspellings(t *testing.T) {
	tests := []struct{ name, meant string }{
		{"MAX_CONECTIONS", "MAX_CONNECTIONS"},
		{"MAX_CONNECTION", "MAX_CONNECTIONS"},
		{"MAX_CONECTION", "MAX_CONNECTIONS"},
		{"MAX-CONNECTIONS", "MAX_CONNECTIONS"},
		{"REDISURL", "REDIS_URL"},
		{"redis_url", "REDIS_URL"},
		{"REDIS_URI", "REDIS_URL"},
		{"IDLE_TIMOUT", "IDLE_TIMEOUT"},
		{"LOGLEVEL", "LOG_LEVEL"},
		{"WORKER_ADDRESS", ""}, // too far from WORKER_ADDR to be sure
		{"WORKER_ADR", "WORKER_ADDR"},
		{"HEALTHPORT", "HEALTH_PORT"},
		{"PROT", "PORT"}, {"POTR", "PORT"}, {"PORTS", "PORT"}, {"HSOT", "HOST"}, {"port", "PORT"}, {"host", "HOST"},
		{"TLS_CERT", "TLS_CERT_FILE"}, {"TLS_KEY", "TLS_KEY_FILE"}, {"FRAME_QUEUE", "FRAME_QUEUE_SIZE"},
		{"TRUSTED_PROXY", "TRUSTED_PROXIES"}, {"ALLOWED_ORIGIN", "ALLOWED_ORIGINS"},
		{"MAX_MESSAGES", ""}, // it may be one of two
		{"OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_EXPORTER_OTLP_ENDPOINT"}, {"OTEL_SERVICENAME", "OTEL_SERVICE_NAME"}, {"otel_service_name", "OTEL_SERVICE_NAME"},

		{"PATH", ""}, {"HOME", ""}, {"HOSTNAME", ""}, {"USER", ""}, {"PWD", ""},
		{"LANG", ""}, {"TERM", ""}, {"SHLVL", ""}, {"CI", ""}, {"TZ", ""}, {"_", ""}, {"", ""},
		{"OTEL_LOG_LEVEL", ""}, {"OTEL_SERVICE_NAME", ""}, {"OTEL_EXPORTER_OTLP_ENDPOINT", ""},
		{"KUBERNETES_SERVICE_HOST", ""}, {"KUBERNETES_PORT", ""}, {"REDIS_PORT", ""}, {"REDIS_SERVICE_HOST", ""},
		{"FLY_REGION", ""}, {"GOMAXPROCS", ""}, {"POST", ""}, {"SORT", ""}, {"MOST", ""}, {"WORKER_TLS", ""},
		{"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", ""}, {"OTEL_ATTRIBUTE_COUNT_LIMIT", ""}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", ""}, {"OTEL_RESOURCE_PROVIDERS", ""},
	}
	for _, tt := range tests {
		found := misspellings(map[string]string{tt.name: "x"})
		switch {
		case tt.meant == "" && len(found) > 0:
			t.Errorf("%q is taken for a misspelling: %s", tt.name, found[0])
		case tt.meant != "" && len(found) != 1:
			t.Errorf("%q is pointed out %d times, want once", tt.name, len(found))
		case tt.meant != "" && (found[0].Name != tt.name || !strings.Contains(found[0].Resolution, tt.meant)):
			t.Errorf("%q: it says %s, want %s named", tt.name, found[0], tt.meant)
		}
	}
}

func TestOwnVariablesAreNoMisspellings(t *testing.T) {
	environ := map[string]string{}
	for _, v := range new(Config).variables() {
		environ[v.name] = "x"
	}
	if found := misspellings(environ); len(found) > 0 {
		t.Errorf("%s", found[0])
	}
}
