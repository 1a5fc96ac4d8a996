package doctor

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// Result is what came of a step.
type Result string

// The results.
const (
	OK      Result = "ok"
	Warning Result = "warning" // not well, but not why a client would fail
	Failed  Result = "failed"
	Skipped Result = "skipped" // it cannot be seen from here
)

// Report is one examination.
type Report struct {
	Of       string  `json:"of"` // the URL, or what was examined
	OK       bool    `json:"ok"`
	Steps    []Step  `json:"steps"`
	Cause    string  `json:"cause,omitempty"`
	Sentence string  `json:"sentence"`
	Status   int     `json:"exit_status"`
	Seconds  float64 `json:"seconds"`
}

// Step is one look at one thing.
type Step struct {
	Name     string `json:"step"`
	Result   Result `json:"result"`
	Measured string `json:"measured"`
	*Finding
}

// Finding is what is wrong.
type Finding struct {
	Cause      string `json:"cause"`
	Because    string `json:"because"` // the cause, in words
	Evidence   string `json:"evidence"`
	Resolution string `json:"resolution"`
	Runbook    string `json:"runbook"`
	status     int
}

// finish sums the steps up.
func (r *Report) finish(began time.Time, well string) {
	r.Seconds = time.Since(began).Seconds()
	r.Of = mask(r.Of)
	for i := range r.Steps {
		s := &r.Steps[i]
		s.Measured = mask(s.Measured)
		if s.Finding != nil {
			s.Evidence, s.Resolution = mask(s.Evidence), mask(s.Resolution)
		}
	}
	r.OK, r.Sentence = true, well
	for _, s := range r.Steps {
		if s.Result == Failed {
			r.OK, r.Cause, r.Status = false, s.Cause, s.status
			r.Sentence = fmt.Sprintf("The cause is that %s: %s.", s.Because, s.Resolution)
			return
		}
	}
	for _, s := range r.Steps {
		if s.Result == Warning {
			r.Sentence = fmt.Sprintf("%s But %s: %s.", well, s.Because, s.Resolution)
			return
		}
	}
}

var (
	passwords = regexp.MustCompile(`[^/@\s"]*:[^/@\s"]*@`)
	secrets   = regexp.MustCompile(`(?i)([?&][^=&\s"]*(?:ticket|token|key|secret|password)[^=&\s"]*=)[^&\s"]*`)
)

// mask hides what only the client should know: reports end in logs.
func mask(text string) string {
	return secrets.ReplaceAllString(passwords.ReplaceAllString(text, "***@"), "${1}***")
}

var marks = map[Result]string{OK: "✅", Warning: "⚠️ ", Failed: "❌", Skipped: "➖"}

// Print writes the report for people.
func (r *Report) Print(to io.Writer) {
	for _, s := range r.Steps {
		s.print(to)
	}
	_, _ = fmt.Fprintf(to, "\n%s (%.1f s)\n", r.Sentence, r.Seconds)
}

func (s *Step) print(to io.Writer) {
	_, _ = fmt.Fprintf(to, "%s %-14s %s\n", marks[s.Result], s.Name, s.Measured)
	if s.Finding == nil {
		return
	}
	for _, line := range [][2]string{{"cause", s.Because}, {"evidence", s.Evidence}, {"resolution", s.Resolution}, {"more", s.Runbook}} {
		if line[1] != "" {
			_, _ = fmt.Fprintf(to, "   %-14s %-11s %s\n", "", line[0]+":", strings.TrimSpace(line[1]))
		}
	}
}
