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

// otlpVariable returns the variable of all signals and those of one.
func otlpVariable(name string) []string {
	return []string{"OTEL_EXPORTER_OTLP_" + name, "OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_METRICS_" + name}
}

// otelValues are the values of variables that take one of a few.
var otelValues = []struct {
	names  []string
	values []string
}{
	{[]string{"OTEL_TRACES_EXPORTER"}, []string{"otlp", "none"}},
	{[]string{"OTEL_METRICS_EXPORTER"}, []string{"otlp", "prometheus", "none"}},
	{[]string{"OTEL_TRACES_SAMPLER"}, []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}},
	{[]string{"OTEL_SDK_DISABLED"}, []string{"true", "false"}},
	{otlpVariable("PROTOCOL"), []string{"grpc", "http/protobuf"}},
	{otlpVariable("COMPRESSION"), []string{"gzip", "none"}},
	{otlpVariable("INSECURE"), []string{"true", "false"}},
}

// CheckEnviron holds the OTEL_* variables to what is understood here: the SDK
// would pass over what it does not know, and traces would go missing silently.
func CheckEnviron(environ map[string]string) (problems []Problem) {
	wrong := func(name, resolution, cause string, args ...any) {
		problems = append(problems, Problem{name, fmt.Sprintf(cause, args...), resolution})
	}
	for _, v := range otelValues {
		for _, name := range v.names {
			if value := environ[name]; value != "" && !slices.Contains(v.values, strings.ToLower(value)) {
				wrong(name, "Use one of "+strings.Join(v.values, ", "), "%.40q is not known here", value)
			}
		}
	}
	if arg := environ["OTEL_TRACES_SAMPLER_ARG"]; arg != "" && strings.HasSuffix(environ["OTEL_TRACES_SAMPLER"], "traceidratio") {
		if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			wrong("OTEL_TRACES_SAMPLER_ARG", "Give a number from 0 to 1, such as 0.01", "%.40q is not a part of all utterances", arg)
		}
	}
	for _, name := range otlpVariable("ENDPOINT") {
		u, err := url.Parse(environ[name])
		if environ[name] != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !isPort(u.Port())) {
			wrong(name, "Use http://host:4317, or https:// where the collector has TLS", "it is not a URL of a collector")
		}
	}
	for _, name := range otlpVariable("TIMEOUT") {
		if ms, err := strconv.Atoi(environ[name]); environ[name] != "" && (err != nil || ms <= 0) {
			wrong(name, "Give milliseconds, such as 10000", "%.40q is not a time", environ[name])
		}
	}
	for _, name := range slices.Concat(otlpVariable("HEADERS"), []string{"OTEL_RESOURCE_ATTRIBUTES"}) {
		for pair := range strings.SplitSeq(environ[name], ",") {
			if environ[name] != "" && !strings.Contains(pair, "=") {
				wrong(name, "Write name=value, several set apart by commas", "a part of it has no =")
				break
			}
		}
	}
	for _, name := range slices.Concat(otlpVariable("CERTIFICATE"), otlpVariable("CLIENT_CERTIFICATE"), otlpVariable("CLIENT_KEY")) {
		if environ[name] == "" {
			continue
		}
		if _, err := os.ReadFile(environ[name]); err != nil {
			wrong(name, "Give the path of a file that can be read", "%v", err)
		}
	}
	return problems
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return text == "" || err == nil && n > 0 && n < 1<<16
}
