package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// Life is the note that an edge keeps beside it while it runs, so that the next
// one, and the doctor, can tell how it ended.
type Life struct {
	PID      int       `json:"pid"`
	Boot     string    `json:"boot"` // of the machine
	Began    time.Time `json:"began"`
	OOMKills uint64    `json:"oom_kills"` // of its cgroup, when it began

	path string
}

// Ended is how an edge came to an end that it was not asked to.
type Ended struct {
	Cause Cause
	Text  string
}

func (e *Ended) String() string { return e.Text }

// Begin notes that an edge begins to serve the port, and returns how the one
// before it ended, or nil when that was in peace. The crash of this process, if
// there is one, goes to the note besides standard error. Without a directory
// that can be written there is no note.
func Begin(environ map[string]string, port int) (*Life, *Ended) {
	before := LastEnd(environ, port)
	path, err := notePath(environ, port)
	if err != nil {
		return nil, before
	}
	l := &Life{PID: os.Getpid(), Boot: bootID(), Began: time.Now(), OOMKills: oomKills(), path: path}
	data, err := json.Marshal(l)
	if err != nil || os.WriteFile(path, data, 0o600) != nil {
		return nil, before
	}
	if crash, err := os.OpenFile(path+".crash", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err == nil {
		_ = debug.SetCrashOutput(crash, debug.CrashOptions{}) // it keeps a descriptor of its own
		_ = crash.Close()
	}
	return l, before
}

// End says that it was in peace.
func (l *Life) End() {
	if l == nil {
		return
	}
	_ = os.Remove(l.path)
	_ = os.Remove(l.path + ".crash")
}

// notePath is in RUN_DIR, or in a directory of the user's own among temporary files.
func notePath(environ map[string]string, port int) (string, error) {
	dir := environ["RUN_DIR"]
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "voxedge-"+strconv.Itoa(os.Getuid()))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(owner.Uid) != os.Getuid() {
		return "", errors.New("the directory is another's")
	}
	return filepath.Join(dir, fmt.Sprintf("edge-%d", port)), nil
}

// LastEnd returns how the edge of the port came to its end, or nil when it
// lives, ended in peace, or nothing is known.
func LastEnd(environ map[string]string, port int) *Ended {
	path, err := notePath(environ, port)
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(path) //nolint:gosec // in a directory of our own
	if err != nil {
		return nil
	}
	var l Life
	if json.Unmarshal(data, &l) != nil || l.lives() {
		return nil
	}
	crash, _ := os.ReadFile(path + ".crash") //nolint:gosec // see above
	return l.ended(crash)
}

func (l *Life) lives() bool {
	if l.PID == os.Getpid() || l.Boot != bootID() {
		return false
	}
	p, err := procfs.NewProc(l.PID)
	if err != nil {
		return false
	}
	stat, err := p.Stat()
	if err != nil || stat.State == "Z" {
		return false
	}
	return describe(p).isEdge()
}

func (l *Life) ended(crash []byte) *Ended {
	who := fmt.Sprintf("the edge that began at %s (pid %d)", l.Began.Format(time.DateTime), l.PID)
	line, _, _ := bytes.Cut(bytes.TrimSpace(crash), []byte("\n"))
	switch words := string(line); {
	case allocating(crash) != "":
		return &Ended{EdgeOutOfMemory, fmt.Sprintf("%s ended while the system gave it no memory (in %s)", who, allocating(crash))}
	case words != "":
		return &Ended{EdgeCrashed, fmt.Sprintf("%s ended with %.200q", who, words)}
	case l.Boot != bootID():
		return &Ended{EdgeCrashed, who + " ended with the machine, which was started anew"}
	case oomKills() > l.OOMKills:
		return &Ended{EdgeOutOfMemory, who + " was killed by the kernel: its memory limit was reached (exit status 137)"}
	}
	return &Ended{EdgeCrashed, who + " was killed: by kill -9, or by the kernel for want of the machine's memory (exit status 137; 'dmesg | grep -i oom' tells)"}
}

// allocating names the function of Go's allocator that ended the process, if it
// was one: the words "out of memory" go to standard error alone.
func allocating(crash []byte) string {
	_, head, ok := bytes.Cut(crash[:min(len(crash), 3000)], []byte("runtime.throw("))
	if !ok {
		return ""
	}
	for _, name := range []string{"runtime.persistentalloc", "runtime.sysMap", "runtime.sysAlloc", "runtime.sysReserve", "runtime.(*mheap)", "runtime.(*mcache)", "runtime.newosproc", "runtime.(*stackpool)", "runtime.stackalloc", "runtime.mallocgc"} {
		if bytes.Contains(head, []byte(name)) {
			return name
		}
	}
	return ""
}

func bootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
}

// oomKills is how many processes of this one's cgroup the kernel has killed.
func oomKills() uint64 {
	data, err := os.ReadFile(cgroupFile("memory.events"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, _ := strconv.ParseUint(count, 10, 64)
			return n
		}
	}
	return 0
}

// cgroupFile is the path of a file of this process's cgroup, of version 2.
func cgroupFile(name string) string {
	const root = "/sys/fs/cgroup"
	self, err := procfs.Self()
	if err != nil {
		return filepath.Join(root, name)
	}
	groups, _ := self.Cgroups()
	for _, g := range groups {
		if g.HierarchyID == 0 {
			if path := filepath.Join(root, g.Path, name); exists(path) {
				return path
			}
		}
	}
	return filepath.Join(root, name)
}

// MemoryLimit is the cgroup's, in bytes, or 0 for none.
func MemoryLimit() uint64 {
	data, err := os.ReadFile(cgroupFile("memory.max"))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}
