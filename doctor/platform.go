package doctor

import (
	"net"
	"os"
	"strings"
)

// Platform is how the edge is run, which decides what to type.
type Platform string

// The platforms.
const (
	Local   Platform = "local"
	Compose Platform = "compose"
	Fly     Platform = "fly"
)

// Platforms are all of them.
var Platforms = []Platform{Local, Compose, Fly}

// platformOf tells it from the host of the URL and from where the doctor is.
func platformOf(host string, environ map[string]string) Platform {
	switch {
	case strings.HasSuffix(host, ".fly.dev"), strings.HasSuffix(host, ".internal"), environ["FLY_APP_NAME"] != "":
		return Fly
	case net.ParseIP(host) == nil && host != "" && host != "localhost" && !strings.Contains(host, "."): // a service's name
		return Compose
	}
	return Local
}

// PlatformHere is that of this machine, for what is yet to be started on it, beside
// a host that it is to use: in a container, that of a service of Compose has no dot.
func PlatformHere(beside string, environ map[string]string) Platform {
	p := platformOf(beside, environ)
	if p == Compose && (!exists("/.dockerenv") || environ["KUBERNETES_SERVICE_HOST"] != "") {
		return Local
	}
	return p
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// appOf is the app's name on Fly.
func appOf(host string, environ map[string]string) string {
	if name, ok := strings.CutSuffix(host, ".fly.dev"); ok {
		return name
	}
	if name := environ["FLY_APP_NAME"]; name != "" {
		return name
	}
	return "<app>"
}

// isHere reports whether the address is one of this machine's.
func isHere(ip net.IP) bool {
	if ip == nil {
		return false
	}
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
