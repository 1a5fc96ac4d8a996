package handlers

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

const (
	paramsKey    = "voxedge.params"
	optionPrefix = "option."
	maxOptions   = 16
	maxParam     = 256 // bytes of a name or value
)

// params reads the query into what the session is asked for.
func (s *stream) params(c *fiber.Ctx) error {
	p, problem := parseParams(c.Queries())
	if problem != nil {
		return middleware.Refuse(c, &middleware.Refusal{
			Status: fiber.StatusBadRequest, Close: session.ClosePolicy, Err: problem})
	}
	c.Locals(paramsKey, p)
	return c.Next()
}

// parseParams copies what it keeps: the query belongs to the request.
func parseParams(query map[string]string) (session.Params, *session.Error) {
	p := session.Params{Pacing: session.Realtime}
	for name, value := range query {
		if len(name) > maxParam || len(value) > maxParam {
			return p, session.Errorf(session.InvalidMessage, "Use at most 256 bytes", "the query parameter %.40q is too long", name)
		}
		switch {
		case name == "model":
			p.Model = strings.Clone(value)
		case name == "language":
			p.Language = strings.Clone(value)
		case name == "pacing":
			p.Pacing = session.Pacing(strings.Clone(value))
			if p.Pacing != session.Realtime && p.Pacing != session.Unpaced {
				return p, session.Errorf(session.InvalidMessage, "Use pacing=realtime or pacing=none", "the pacing %.40q is unknown", value)
			}
		case strings.HasPrefix(name, optionPrefix):
			if len(p.Options) == maxOptions {
				return p, session.Errorf(session.InvalidMessage, "Give at most 16 of them", "there are too many option parameters")
			}
			if p.Options == nil {
				p.Options = map[string]string{}
			}
			p.Options[strings.Clone(name[len(optionPrefix):])] = strings.Clone(value)
		}
	}
	return p, nil
}
