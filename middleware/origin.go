package middleware

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/voxedge/voxedge/session"
)

// Origins are the pages that may connect, besides those of the edge's own host.
type Origins []string

// ParseOrigins reads origins set apart by commas: https://app.example.com,
// https://*.example.com for all below, or * for all.
func ParseOrigins(text string) (Origins, error) {
	var all Origins
	for s := range strings.SplitSeq(text, ",") {
		s = strings.ToLower(strings.TrimSpace(s))
		if s == "" {
			continue
		}
		u, err := url.Parse(strings.Replace(s, "*.", "wildcard.", 1))
		if s != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || strings.Contains(u.Host, "*")) {
			return nil, fmt.Errorf("%.80q is not an origin", s)
		}
		all = append(all, s)
	}
	return all, nil
}

// Allow reports whether a page of the origin may connect to the host. A client
// without an origin is no browser.
func (o Origins) Allow(origin, host string) bool {
	origin = strings.ToLower(origin)
	if origin == "" || slices.Contains(o, "*") || slices.Contains(o, origin) {
		return true
	}
	scheme, name, ok := strings.Cut(origin, "://")
	if !ok {
		return false // a sandboxed page calls itself null
	}
	if name == strings.ToLower(host) {
		return true
	}
	return slices.ContainsFunc(o, func(allowed string) bool {
		allowedScheme, suffix, wild := strings.Cut(allowed, "://*")
		return wild && scheme == allowedScheme && strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	})
}

// Check refuses pages of other origins. refused counts them.
func (o Origins) Check(refused func(*session.Error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if origin := c.Get(fiber.HeaderOrigin); !o.Allow(origin, string(c.Request().Host())) {
			problem := session.Errorf(session.ForbiddenOrigin, "Open the page from a place that may, or have the operator add its origin to ALLOWED_ORIGINS",
				"pages of %.100q may not connect", origin)
			refused(problem)
			return Refuse(c, refusalOf(problem))
		}
		return c.Next()
	}
}
