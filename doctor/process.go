package doctor

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
)

// Process is one that listens at a port of this machine.
type Process struct {
	PID     int
	Command string // the program and its subcommand: more may hold passwords
	Stopped bool   // by a signal or a debugger
	Environ map[string]string

	line string // all of its command
}

func (p *Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Command, p.PID) }

// listening is a socket's state in /proc/net/tcp.
const listening = 0x0a

// socket is one that listens at this machine.
type socket struct {
	at   net.IP
	link string // as /proc shows it among a process's files
}

// listeners are the sockets that listen at the port, whoever has them.
func listeners(port int) []socket {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	var found []socket
	v4, _ := fs.NetTCP()  //nolint:staticcheck // netlink would be one more dependency, for a file
	v6, _ := fs.NetTCP6() //nolint:staticcheck // see above
	for _, line := range slices.Concat(v4, v6) {
		if line.St == listening && line.LocalPort == uint64(port) { //nolint:gosec // a port
			found = append(found, socket{line.LocalAddr, fmt.Sprintf("socket:[%d]", line.Inode)})
		}
	}
	return found
}

// takes reports whether what listens at one address gets the connections to another.
func takes(at, ip net.IP) bool {
	return at.Equal(ip) || at.IsUnspecified() && (at.To4() == nil || ip.To4() != nil)
}

// Listener finds the process that listens at the port, as far as this machine
// lets one see; nil when it does not.
func Listener(port int) *Process { return owner(listeners(port)) }

// Holder finds the one that keeps others from listening at the host and port.
func Holder(host string, port int) *Process {
	ip := net.ParseIP(host)
	if ip == nil {
		return Listener(port)
	}
	return owner(slices.DeleteFunc(listeners(port), func(s socket) bool { return !takes(s.at, ip) && !takes(ip, s.at) }))
}

// holderOf finds the one that gets the connections to the address. One that
// listens at it alone comes before one that listens at all.
func holderOf(sockets []socket, ip net.IP) *Process {
	own := slices.DeleteFunc(slices.Clone(sockets), func(s socket) bool { return !s.at.Equal(ip) })
	if len(own) > 0 {
		return owner(own)
	}
	return owner(slices.DeleteFunc(slices.Clone(sockets), func(s socket) bool { return !takes(s.at, ip) }))
}

// owner finds the process that has one of the sockets.
func owner(sockets []socket) *Process {
	if len(sockets) == 0 {
		return nil
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	processes, err := fs.AllProcs()
	if err != nil {
		return nil
	}
	for _, p := range processes {
		files, err := p.FileDescriptorTargets()
		if err == nil && slices.ContainsFunc(sockets, func(s socket) bool { return slices.Contains(files, s.link) }) {
			return describe(p)
		}
	}
	return nil
}

func describe(p procfs.Proc) *Process {
	d := &Process{PID: p.PID, Environ: map[string]string{}}
	if command, err := p.CmdLine(); err == nil {
		d.line = strings.Join(command, " ")
		d.Command = outline(d.line)
	}
	if stat, err := p.Stat(); err == nil {
		d.Stopped = stat.State == "T" || stat.State == "t"
		if d.Command == "" {
			d.Command = stat.Comm
		}
	}
	environ, _ := p.Environ()
	for _, s := range environ {
		if name, value, ok := strings.Cut(s, "="); ok {
			d.Environ[name] = value
		}
	}
	return d
}

// outline is the program and its subcommand, which is not a flag with a value.
func outline(line string) string {
	words := strings.Fields(line)
	if len(words) > 2 {
		words = words[:2]
	}
	if len(words) == 2 && len(words[1]) > 2 && words[1][0] == '-' {
		words = words[:1]
	}
	return Shown(strings.Join(words, " "))
}

// isEdge reports whether the process is a voxedge.
func (p *Process) isEdge() bool {
	if p == nil {
		return false
	}
	program, _, _ := strings.Cut(p.Command, " ")
	return strings.HasPrefix(filepath.Base(program), "voxedge")
}

// isProxy reports whether the process passes connections on to others, so that
// it is one of those that hangs up and not itself another program.
func (p *Process) isProxy() bool {
	return slices.ContainsFunc([]string{"proxy", "nginx", "envoy", "traefik", "caddy", "sshd", "kubectl"}, func(name string) bool {
		return strings.Contains(p.line, name)
	})
}
