package handlers

import (
	"net/url"
	"testing"
	"unicode/utf8"

	"github.com/voxedge/voxedge/session"
)

// Whatever a stranger asks for is refused with a reason or within the bounds
// that workers and the journal can count on.
func FuzzParseQuery(f *testing.F) {
	f.Add("model=a&language=de&pacing=none&option.speed=140&timings=true")
	f.Add("session=a&after=18446744073709551615&resume_token=b")
	f.Add("option.=a&option.%ff=%00")
	f.Add("after=-1&after=1&pacing=")
	f.Fuzz(func(t *testing.T, raw string) {
		values, _ := url.ParseQuery(raw)
		query := map[string]string{}
		for name := range values {
			query[name] = values.Get(name)
		}
		ask, problem := parseQuery(query)
		if problem != nil {
			if problem.Code != session.InvalidMessage || problem.Cause == "" || problem.Resolution == "" {
				t.Errorf("%q: %v", raw, problem)
			}
			return
		}
		p := ask.params
		if p.Pacing != session.Realtime && p.Pacing != session.Unpaced || len(p.Options) > maxOptions {
			t.Errorf("%q passed as %+v", raw, p)
		}
		texts := []string{p.Model, p.Language, ask.session, ask.token, ask.traceparent}
		for name, value := range p.Options {
			texts = append(texts, name, value)
			if name == "" {
				t.Errorf("%q: an option without a name", raw)
			}
		}
		for _, text := range texts {
			if !utf8.ValidString(text) || len(text) > maxParam {
				t.Errorf("%q: passed %q", raw, text)
			}
		}
		if (ask.session == "") != (ask.token == "") {
			t.Errorf("%q: half a session to resume", raw)
		}
	})
}
