package app

import (
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// shownMetrics are the names and types at /metrics when everything that can be
// recorded has been.
func shownMetrics(t *testing.T) map[string]string {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	cfg := settings(t, nil)
	cfg.tracing = true
	e, err := newEdge(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, "the edge", e.run)
	defer stop()
	record := reflect.ValueOf(e.record)
	for _, interfaces := range []reflect.Type{reflect.TypeFor[telemetry.Recorder](), reflect.TypeFor[telemetry.WorkerRecorder]()} {
		for method := range interfaces.Methods() {
			var args []reflect.Value
			for in := range method.Type.Ins() {
				args = append(args, something(in))
			}
			record.MethodByName(method.Name).Call(args)
		}
	}
	answer := httptest.NewRecorder()
	e.record.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	body, _ := io.ReadAll(answer.Body)
	shown := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (voxedge_\w+) (\w+)$`).FindAllStringSubmatch(string(body), -1) {
		shown[m[1]] = m[2]
	}
	return shown
}

// something is a value of the type that is worth recording.
func something(of reflect.Type) reflect.Value {
	switch of.Kind() { //nolint:exhaustive // the rest are numbers
	case reflect.String:
		return reflect.ValueOf("x")
	case reflect.Pointer:
		d := &telemetry.Distribution{}
		d.Observe(time.Millisecond)
		return reflect.ValueOf(d)
	case reflect.Struct:
		return reflect.Zero(of)
	}
	return reflect.ValueOf(1).Convert(of)
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheDocumentListsEveryMetricWithItsUnit(t *testing.T) {
	suffixes := map[string]string{"s": "_seconds", "By": "_bytes"}
	want := map[string]bool{}
	for name, kind := range shownMetrics(t) {
		if kind == "counter" {
			name = strings.TrimSuffix(name, "_total")
		}
		want[name] = true
	}
	got := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `(voxedge\\.[a-z_.]+)` \\| (?:`([^`]+)`)? ?\\|[^|]*\\| [^|]+\\? \\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/observability.md"), -1) {
		got[strings.ReplaceAll(m[1], ".", "_")+suffixes[m[2]]] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("documented:\n%s\nshown:\n%s", strings.Join(slices.Sorted(maps.Keys(got)), "\n"), strings.Join(slices.Sorted(maps.Keys(want)), "\n"))
	}
}

// A dashboard or an alert on a metric that is not there shows that all is well.
func TestDashboardAndAlertsKnowTheMetrics(t *testing.T) {
	shown := shownMetrics(t)
	dashboard, alerts := read(t, "../docs/observability/dashboard.json"), read(t, "../docs/observability/alerts.yaml")
	if !json.Valid([]byte(dashboard)) {
		t.Error("the dashboard is not JSON")
	}
	used := map[string]bool{}
	for _, name := range regexp.MustCompile(`voxedge_\w+`).FindAllString(dashboard+alerts, -1) {
		if base, ok := strings.CutSuffix(name, "_bucket"); ok && shown[base] == "histogram" {
			name = base
		}
		used[name] = true
		if shown[name] == "" {
			t.Errorf("there is no metric %s", name)
		}
	}
	for name := range shown {
		if !used[name] {
			t.Errorf("%s is neither on the dashboard nor in an alert", name)
		}
	}
}
