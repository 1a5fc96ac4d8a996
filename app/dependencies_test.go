package app

import (
	"regexp"
	"strings"
	"testing"
)

// Every direct dependency has a reason that is written down.
func TestDependenciesAreJustified(t *testing.T) {
	reasons := read(t, "../docs/decisions/dependencies.md")
	direct, _, _ := strings.Cut(read(t, "../go.mod"), "// indirect")
	modules := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(direct, -1)
	if len(modules) < 10 {
		t.Fatalf("only %d modules are direct", len(modules))
	}
	for _, m := range modules {
		name := strings.TrimPrefix(m[1], "github.com/")
		if !strings.Contains(reasons, name) && !strings.HasPrefix(name, "go.opentelemetry.io/") {
			t.Errorf("docs/decisions/dependencies.md does not say what %s is for", name)
		}
	}
}
