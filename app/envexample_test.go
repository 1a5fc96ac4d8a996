package app

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write .env.example")

const envExampleFile = "../.env.example"

func TestEnvExampleIsUpToDate(t *testing.T) {
	want := EnvExample()
	if *update {
		if err := os.WriteFile(envExampleFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(envExampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error(".env.example is not what the configuration says: run go test ./app -run EnvExample -update")
	}
}

// Whoever copies the file must get the defaults and nothing else.
func TestEnvExampleIsTheDefaults(t *testing.T) {
	environ := map[string]string{}
	for line := range strings.Lines(EnvExample()) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if _, twice := environ[name]; !ok || twice {
			t.Errorf("the line %q is no variable, or one that was there", line)
		}
		environ[name] = value
	}
	defaults, _ := LoadConfig(nil)
	got, problems := LoadConfig(environ)
	if len(problems) > 0 || got != defaults {
		t.Errorf("it is read as %+v, %v; want the defaults", got, problems)
	}
	for _, v := range defaults.variables() {
		if _, ok := environ[v.name]; !ok {
			t.Errorf("%s is missing", v.name)
		}
		if v.doc == "" {
			t.Errorf("nothing is said of %s", v.name)
		}
	}
}
