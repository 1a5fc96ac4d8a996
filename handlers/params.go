package handlers

import (
	"cmp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

const (
	openingKey   = "voxedge.opening"
	optionPrefix = "option."
	maxOptions   = 16
	maxParam     = 256 // bytes of a name or value
)

// ask is what a client asks for with its query.
type ask struct {
	params  session.Params
	session string // to be resumed, or empty
	token   string
	after   uint64 // the last frame received

	traceparent string
	timings     bool
}

// params reads the query into what the session is opened with.
func (s *stream) params(c *fiber.Ctx) error {
	ask, problem := parseQuery(c.Queries())
	if problem != nil {
		s.hub.Refused(problem)
		return middleware.RefuseError(c, problem)
	}
	id := middleware.IdentityOf(c)
	opening := session.Opening{Params: ask.params, Remote: middleware.AddressOf(c), Client: id.Name, Expires: id.Expires, Traceparent: ask.traceparent, Timings: ask.timings}
	opening.Traceparent = cmp.Or(c.Get("traceparent"), opening.Traceparent)
	if ask.session != "" {
		opening.Resumed, problem = s.hub.Resume(c.UserContext(), ask.session, ask.token, id.Name, ask.after)
		if problem != nil {
			return middleware.RefuseError(c, problem)
		}
	}
	c.Locals(openingKey, opening)
	return c.Next()
}

// resumes reports whether params has found a session that goes on.
func resumes(c *fiber.Ctx) bool {
	opening, ok := c.Locals(openingKey).(session.Opening)
	return ok && opening.Resumed != nil
}

// parseQuery says what the query asks for.
func parseQuery(query map[string]string) (ask ask, problem *session.Error) {
	p := &ask.params
	p.Pacing = session.Realtime
	for name, value := range query {
		if len(name) > maxParam || len(value) > maxParam {
			return ask, session.Errorf(session.InvalidMessage, "Use at most 256 bytes", "the query parameter %.40q is too long", name)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return ask, session.Errorf(session.InvalidMessage, "Encode the query as UTF-8, percent-escaped", "the query parameter %.40q is not UTF-8", name)
		}
		switch {
		case name == "session":
			ask.session = value
		case name == "resume_token":
			ask.token = value
		case name == "after":
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return ask, session.Errorf(session.InvalidMessage, "Give the sequence of the last frame received", "the parameter after, %.40q, is not the sequence of a frame", value)
			}
			ask.after = n
		case name == "model":
			p.Model = value
		case name == "language":
			p.Language = value
		case name == "traceparent":
			ask.traceparent = value
		case name == "timings":
			ask.timings = value == "true"
		case name == "pacing":
			p.Pacing = session.Pacing(value)
			if p.Pacing != session.Realtime && p.Pacing != session.Unpaced {
				return ask, session.Errorf(session.InvalidMessage, "Use pacing=realtime or pacing=none", "the pacing %.40q is unknown", value)
			}
		case name == optionPrefix:
			return ask, session.Errorf(session.InvalidMessage, "Write option.<name>=<value>, such as option.speed=140", "an option parameter has no name")
		case strings.HasPrefix(name, optionPrefix):
			if len(p.Options) == maxOptions {
				return ask, session.Errorf(session.InvalidMessage, "Give at most 16 of them", "there are too many option parameters")
			}
			if p.Options == nil {
				p.Options = map[string]string{}
			}
			p.Options[name[len(optionPrefix):]] = value
		}
	}
	if resuming := query["session"] != "" || query["after"] != "" || query["resume_token"] != ""; resuming &&
		(query["session"] == "" || query["after"] == "" || query["resume_token"] == "") {
		return ask, session.Errorf(session.InvalidMessage, "Give session, after and resume_token to resume a session, or none of them for a new one",
			"the session to resume is not named whole")
	}
	return ask, nil
}
