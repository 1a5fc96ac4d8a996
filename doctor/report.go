package doctor

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
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
	Time     time.Time `json:"time"` // that it began
	Of       string    `json:"of"`   // the URL, or what was examined
	OK       bool      `json:"ok"`
	Steps    []Step    `json:"steps"`
	Cause    string    `json:"cause,omitempty"`
	Sentence string    `json:"sentence"`
	Status   int       `json:"exit_status"`
	Seconds  float64   `json:"seconds"`
}

// Verdict is what is wrong, and with what, without what was measured: two reports
// of the same have the same.
func (r *Report) Verdict() string {
	var found []string
	for _, s := range r.Steps {
		if s.Finding != nil {
			found = append(found, string(s.Result)+" "+s.Name+" "+s.Cause)
		}
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ", ")
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
	r.Time, r.Seconds = began, time.Since(began).Seconds()
	r.Of = Shown(r.Of)
	for i := range r.Steps {
		s := &r.Steps[i]
		texts := []*string{&s.Name, &s.Measured}
		if s.Finding != nil {
			texts = append(texts, &s.Evidence, &s.Resolution)
		}
		for _, text := range texts {
			*text = Shown(*text)
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
	// userinfo goes to the last @ of a word: a password may have any other in it.
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)?[^\s"]*@`)
	queries  = regexp.MustCompile(`([?&#;])([^=&#;?\s"]+)=([^&#\s"]*)`)
	harmless = regexp.MustCompile(`^(?:model|language|pacing|after)=[\w.-]*$`)
)

// Shown is the text as anybody may see it: reports end in logs and terminals.
// What only the client should know is masked, and nothing in it moves a cursor.
func Shown(text string) string {
	text = queries.ReplaceAllStringFunc(text, func(query string) string {
		if harmless.MatchString(query[1:]) {
			return query
		}
		name, _, _ := strings.Cut(query, "=")
		return name + "=***"
	})
	return plain(userinfo.ReplaceAllString(text, "${1}***@"))
}

// plain is the text in one line, with control characters escaped.
func plain(text string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(text), " ") {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// hidden is the text without what the headers of the handshake hold, which a
// server may say again.
func (o *Options) hidden(text string) string {
	for name, values := range o.Header {
		if name == "Origin" || name == "User-Agent" { // browsers tell them everybody
			continue
		}
		for _, value := range values {
			for _, secret := range append([]string{value}, strings.Fields(value)...) {
				if len(secret) > 3 && !strings.EqualFold(secret, "Bearer") && !strings.EqualFold(secret, "Basic") {
					text = strings.ReplaceAll(text, secret, "***")
				}
			}
		}
	}
	return text
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
