package clients

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/voxedge/voxedge/proto"
)

// The registry's terms, kept by workers and edges alike.
const (
	RegistryPrefix  = "worker:"
	maxName         = 256 // bytes
	AnnounceTTL     = 30 * time.Second
	AnnounceRefresh = 10 * time.Second
	// RegistryChannel carries a message whenever a worker comes or goes, so that
	// edges need not wait for their next look. Its absence costs only time.
	RegistryChannel = "voxedge:workers"
)

// Announcement is what a worker says of itself in Redis, as JSON under
// worker:<name>.
type Announcement struct {
	Name           string              `json:"name"`
	Addr           string              `json:"addr"` // grpc://host:port
	Capabilities   *proto.Capabilities `json:"capabilities"`
	ResidentModels []string            `json:"resident_models"`
	Metrics        Metrics             `json:"metrics"`
	LastHeartbeat  float64             `json:"last_heartbeat_ts"` // Unix seconds
}

// Metrics are the numbers of a worker; what is not a number is passed over.
type Metrics map[string]float64

// UnmarshalJSON keeps the numbers of an object.
func (m *Metrics) UnmarshalJSON(data []byte) error {
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	*m = Metrics{}
	for name, value := range all {
		if number, ok := value.(float64); ok {
			(*m)[name] = number
		}
	}
	return nil
}

// ParseAnnouncement reads the value of the registry key of the named worker.
// The address comes back as host:port.
func ParseAnnouncement(data []byte, name string) (Announcement, error) {
	var a Announcement
	if err := json.Unmarshal(data, &a); err != nil {
		return a, err
	}
	if a.Name == "" {
		a.Name = name
	}
	if len(a.Name) > maxName || !utf8.ValidString(a.Name) || strings.ContainsFunc(a.Name, unicode.IsControl) {
		return a, fmt.Errorf(`"name": %.40q is not a name of at most %d bytes of UTF-8`, a.Name, maxName)
	}
	addr, err := ParseAddr(a.Addr)
	if err != nil {
		return a, fmt.Errorf(`"addr": %w`, err)
	}
	a.Addr = addr
	return a, nil
}

// ParseAddr reads grpc://host:port or host:port and returns host:port.
func ParseAddr(s string) (string, error) {
	addr := strings.TrimPrefix(strings.TrimSpace(s), "grpc://")
	host, port, err := net.SplitHostPort(addr)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(addr, "/ ") {
		return "", fmt.Errorf("%.100q is not grpc://host:port or host:port", s)
	}
	return addr, nil
}

// StaticWorkers reads addresses set apart by commas as if they had announced
// themselves.
func StaticWorkers(addrs string) ([]Announcement, error) {
	var all []Announcement
	for s := range strings.SplitSeq(addrs, ",") {
		addr, err := ParseAddr(s)
		if err != nil {
			return nil, err
		}
		all = append(all, Announcement{Name: addr, Addr: addr})
	}
	return all, nil
}
