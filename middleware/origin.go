package middleware

import (
	"fmt"
	"log/slog"
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
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		scheme, name, _ := strings.Cut(s, "://")
		name, wild := strings.CutPrefix(name, "*.")
		origin, ok := parseOrigin(scheme + "://" + name)
		if s == "*" {
			origin, ok = s, true
		}
		if !ok || strings.Contains(name, "*") {
			return nil, fmt.Errorf("%.80q is not an origin", s)
		}
		if wild {
			origin = strings.Replace(origin, "://", "://*.", 1)
		}
		all = append(all, origin)
	}
	return all, nil
}

// parseOrigin returns the origin as browsers write it: scheme://host, and the port
// where it is not the scheme's own.
func parseOrigin(text string) (origin string, ok bool) {
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != strings.ToLower(text) {
		return "", false
	}
	port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(u.Host, port), true
}

// Allow reports whether a page of the origin may connect to the host. A client
// without an origin is no browser.
func (o Origins) Allow(origin, host string) bool {
	if origin == "" || slices.Contains(o, "*") {
		return true
	}
	origin, ok := parseOrigin(origin)
	if !ok {
		return false // a sandboxed page calls itself null
	}
	if slices.Contains(o, origin) {
		return true
	}
	scheme, name, _ := strings.Cut(origin, "://")
	if name == strings.ToLower(host) {
		return true
	}
	return slices.ContainsFunc(o, func(allowed string) bool {
		allowedScheme, suffix, wild := strings.Cut(allowed, "://*")
		return wild && scheme == allowedScheme && strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	})
}

// Check refuses pages of other origins. refused counts them.
func (o Origins) Check(refused func(*session.Error), log *slog.Logger) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if origin := c.Get(fiber.HeaderOrigin); !o.Allow(origin, string(c.Request().Host())) {
			problem := session.Errorf(session.ForbiddenOrigin, "Open the page from a place that may, or have the operator add its origin to ALLOWED_ORIGINS",
				"pages of %.100q may not connect", origin)
			log.Info("a page was not let in", "remote", c.IP(), "cause", problem.Cause, "resolution", problem.Resolution, "runbook", problem.Code.Runbook())
			refused(problem)
			return Refuse(c, refusalOf(problem))
		}
		return c.Next()
	}
}
