package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/voxedge/voxedge/session"
)

var (
	heading = regexp.MustCompile(`(?m)^### (.+)$`)
	blank   = regexp.MustCompile(`\{(host|port|app|pid|what)\}`)
)

// sections returns the text of each section of the runbooks, by its link.
func sections(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	files, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no runbooks", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		starts := heading.FindAllStringSubmatchIndex(string(data), -1)
		for i, at := range starts {
			end := len(data)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}
			link := "docs/runbooks/" + filepath.Base(file) + "#" + strings.ToLower(string(data[at[2]:at[3]])) // as anchors are made
			if found[link] != "" {
				t.Errorf("%s is there twice", link)
			}
			found[link] = string(data[at[1]:end])
		}
	}
	return found
}

// No cause without a section, no section without a cause or a code; and what a
// section says to do is what the doctor says.
func TestRunbooksAndCausesAreOne(t *testing.T) {
	found := sections(t)
	wanted := map[string]bool{}
	for _, c := range Causes {
		wanted[c.Link()] = true
		section, ok := found[c.Link()]
		if !ok {
			t.Errorf("there is no section %s", c.Link())
			continue
		}
		for _, resolution := range []string{c.Title, c.Local, c.Compose, c.Fly} {
			if words := strings.Fields(blank.ReplaceAllString(resolution, "<$1>")); !strings.Contains(strings.Join(strings.Fields(section), " "), strings.Join(words, " ")) {
				t.Errorf("%s does not say %q", c.Link(), resolution)
			}
		}
	}
	for _, code := range session.Codes {
		wanted[code.Runbook()] = true
		section, ok := found[code.Runbook()]
		if !ok {
			t.Errorf("there is no section %s", code.Runbook())
		}
		if cause, known := CauseOf(code); known && strings.EqualFold(cause.ID, string(code)) && !strings.Contains(section, "`"+string(code)+"`") {
			t.Errorf("%s does not name the code %s", cause.Link(), code)
		}
	}
	for link := range found {
		if !wanted[link] {
			t.Errorf("%s is a section of nothing", link)
		}
	}
}

func TestEveryCauseIsWholeAndItsOwn(t *testing.T) {
	ids, statuses := map[string]bool{}, map[int]bool{}
	for _, c := range Causes {
		if ids[c.ID] || statuses[c.Status] || c.Status <= 2 || c.Status > 125 {
			t.Errorf("%s: its id or its status %d is another's", c.ID, c.Status)
		}
		ids[c.ID], statuses[c.Status] = true, true
		if c.Title == "" || c.Local == "" || strings.HasSuffix(c.Local, ".") {
			t.Errorf("%s is not whole", c.ID)
		}
		blanks := map[string]string{"host": "h", "port": "1", "app": "a", "pid": "2", "what": "w"}
		for _, p := range Platforms {
			if text := c.resolution(p, blanks); blank.MatchString(text) {
				t.Errorf("%s: a blank is left in %q", c.ID, text)
			}
		}
	}
	if !slices.IsSortedFunc(Causes, func(a, b Cause) int { return a.Status - b.Status }) {
		t.Error("the causes are not in the order of their statuses")
	}
}

// Whatever it is given for a URL, the doctor has an answer, and at once.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"ws://localhost:8080/v1/stream", "localhost:8080", "http://a", "ws://", "://", "ws://[::1", "wss://a:b@c:99999/%zz", " ws://x", "\x00", "ws://a b/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e := &examination{Options: Options{URL: text}}
		s := e.checkURL(t.Context())
		switch {
		case s.Result == OK && (e.host == "" || e.port == ""):
			t.Errorf("%q passed as host %q, port %q", text, e.host, e.port)
		case s.Result == Failed && (s.Evidence == "" || s.Resolution == "" || s.status == 0):
			t.Errorf("%q: %+v", text, s.Finding)
		}
	})
}

// An alert at night leads to a section that is there.
func TestAlertsLeadToRunbooks(t *testing.T) {
	data, err := os.ReadFile("../docs/observability/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := sections(t)
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllString(string(data), -1)
	links := regexp.MustCompile(`(?m)^ +runbook: (\S+)$`).FindAllStringSubmatch(string(data), -1)
	if len(alerts) == 0 || len(alerts) != len(links) {
		t.Errorf("%d alerts, %d links", len(alerts), len(links))
	}
	for _, link := range links {
		file, _, hasSection := strings.Cut(link[1], "#")
		if _, err := os.Stat("../" + file); err != nil || hasSection && found[link[1]] == "" {
			t.Errorf("%s is not there", link[1])
		}
	}
}

// Reports end in the logs of deployments.
func TestReportsShowNoSecrets(t *testing.T) {
	for _, url := range []string{
		"ws://u:TOPSECRET@localhost:1/v1/stream", "http://u:TOPSECRET@localhost", "u:TOPSECRET@localhost:1", "ws://localhost:1/?ticket=TOPSECRET",
		"ws://localhost:1/?a=b&resume_token=TOPSECRET&after=1", "ftp://localhost/?api_key=TOPSECRET", "ws://[::1/?token=TOPSECRET",
		"ws://TOPSECRET@localhost:1/", "redis://TOPSECRET@localhost", "ws://u:a/TOPSECRET@localhost:1", "ws://u:a \"TOPSECRET@localhost", "ws://localhost:1/?anything=TOPSECRET", "localhost:1/?x=TOPSECRET",
	} {
		r := Examine(t.Context(), Options{URL: url})
		var text strings.Builder
		r.Print(&text)
		if data, err := json.Marshal(r); err != nil || strings.Contains(text.String()+string(data), "TOPSECRET") {
			t.Errorf("%s: %s", url, &text)
		}
	}
}
