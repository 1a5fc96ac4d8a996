package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// misspellings points out variables that are not ours but nearly, and those that
// are nearly OpenTelemetry's.
func misspellings(environ map[string]string) []Problem {
	var ours []string
	for _, v := range new(Config).variables() {
		ours = append(ours, v.name)
	}
	slices.Sort(ours)
	var found []Problem
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		owner, theirs := "voxedge", ours
		if strings.HasPrefix(strings.ToUpper(name), "OTEL_") {
			owner, theirs = "OpenTelemetry", otelNames
		}
		if slices.Contains(theirs, name) {
			continue
		}
		if meant := meantBy(name, theirs); meant != "" {
			found = append(found, Problem{name, fmt.Sprintf("it is not a variable of %s, but much like %s", owner, meant),
				fmt.Sprintf("Rename it to %s if that is what is meant", meant)})
		}
	}
	return found
}

// otelNames are those that an edge or worker goes by.
var otelNames = func() []string {
	names := []string{
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED", "OTEL_LOG_LEVEL", "OTEL_PROPAGATORS", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
		"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT",
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
	}
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		for _, setting := range []string{"ENDPOINT", "HEADERS", "PROTOCOL", "TIMEOUT", "COMPRESSION", "INSECURE", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
			names = append(names, "OTEL_EXPORTER_OTLP_"+signal+setting)
		}
	}
	return names
}()

// meantBy is the variable that the name is nearest to, if it is near to any.
func meantBy(name string, theirs []string) string {
	for _, v := range theirs {
		if strings.EqualFold(name, v) {
			return v
		}
	}
	var shortened []string
	for _, v := range theirs {
		if nearly(name, v) {
			return v
		}
		if strings.Contains(name, "_") && strings.HasPrefix(v, strings.ToUpper(name)+"_") {
			shortened = append(shortened, v)
		}
	}
	if len(shortened) == 1 { // of several, nobody knows which
		return shortened[0]
	}
	return ""
}

// nearly takes short names for ours only where letters are swapped or one is
// added for the plural: half of all short words are alike.
func nearly(name, ours string) bool {
	a, b := strings.ToUpper(name), strings.ToUpper(ours)
	if singular(a) == singular(b) || swapped(a, b) {
		return true
	}
	if len(ours) < 7 {
		return false
	}
	if strings.ReplaceAll(a, "-", "_") == b || strings.ReplaceAll(a, "_", "") == strings.ReplaceAll(b, "_", "") {
		return true
	}
	return levenshtein.ComputeDistance(a, b) <= 2
}

func singular(name string) string {
	if stem, ok := strings.CutSuffix(name, "IES"); ok {
		return stem + "Y"
	}
	return strings.TrimSuffix(name, "S")
}

// swapped reports whether one is the other with two neighbours exchanged.
func swapped(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) - 1 {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}
