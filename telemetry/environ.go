package telemetry

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// TracingWanted reports whether the environment names a place for traces.
func TracingWanted(environ map[string]string) bool {
	if strings.EqualFold(environ["OTEL_SDK_DISABLED"], "true") || environ["OTEL_TRACES_EXPORTER"] == "none" {
		return false
	}
	return environ["OTEL_TRACES_EXPORTER"] == "otlp" || environ["OTEL_EXPORTER_OTLP_ENDPOINT"] != "" || environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] != ""
}

// MetricsWanted reports whether the environment names a place for metrics,
// besides Prometheus, which comes for them.
func MetricsWanted(environ map[string]string) bool {
	if strings.EqualFold(environ["OTEL_SDK_DISABLED"], "true") || environ["OTEL_METRICS_EXPORTER"] == "none" {
		return false
	}
	return environ["OTEL_METRICS_EXPORTER"] == "otlp" || environ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] != ""
}

// overGRPC reports which of OTLP's two ways is meant: by the variable, or else
// by the port, which is 4317 for gRPC alone.
func overGRPC(signal string) bool {
	protocol := os.Getenv("OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL")
	if protocol == "" {
		protocol = os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	if protocol != "" {
		return protocol == "grpc"
	}
	endpoint := os.Getenv("OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT")
	if endpoint == "" {
		endpoint = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	return strings.HasSuffix(strings.TrimRight(endpoint, "/"), ":4317")
}

// Problem is an OTEL_* variable that does not say what it must.
type Problem struct{ Name, Cause, Resolution string }

// otelValues are the values of variables that take one of a few.
var otelValues = []struct {
	name   string
	values []string
}{
	{"OTEL_TRACES_EXPORTER", []string{"otlp", "none"}},
	{"OTEL_METRICS_EXPORTER", []string{"otlp", "prometheus", "none"}},
	{"OTEL_EXPORTER_OTLP_PROTOCOL", protocols},
	{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocols},
	{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocols},
	{"OTEL_TRACES_SAMPLER", []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}},
}

var protocols = []string{"grpc", "http/protobuf"}

// CheckEnviron holds the OTEL_* variables to what is understood here: the SDK
// would pass over what it does not know, and traces would go missing silently.
func CheckEnviron(environ map[string]string) (problems []Problem) {
	for _, v := range otelValues {
		if value := environ[v.name]; value != "" && !slices.Contains(v.values, value) {
			problems = append(problems, Problem{v.name, fmt.Sprintf("%.40q is not known here", value), "Use one of " + strings.Join(v.values, ", ")})
		}
	}
	if arg := environ["OTEL_TRACES_SAMPLER_ARG"]; arg != "" && strings.HasSuffix(environ["OTEL_TRACES_SAMPLER"], "traceidratio") {
		if ratio, err := strconv.ParseFloat(arg, 64); err != nil || ratio < 0 || ratio > 1 {
			problems = append(problems, Problem{"OTEL_TRACES_SAMPLER_ARG", fmt.Sprintf("%.40q is not a part of all utterances", arg), "Give a number from 0 to 1, such as 0.01"})
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"} {
		u, err := url.Parse(environ[name])
		if environ[name] != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			problems = append(problems, Problem{name, "it is not a URL of a collector", "Use http://host:4317, or https:// where the collector has TLS"})
		}
	}
	return problems
}
