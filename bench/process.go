package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is a child, ended by stop.
type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// start runs this program with other arguments, in an environment of these
// variables alone.
func start(ctx context.Context, env []string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self, args...), log: new(bytes.Buffer)} //nolint:gosec // itself
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	defer time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() }).Stop()
	_ = p.cmd.Wait()
}

// cpu is the time that all threads of the process have run.
func (p *process) cpu() (total time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		return 0, errors.New("the kernel does not count threads' time here (/proc/<pid>/task/*/schedstat): use Linux")
	}
	for _, path := range tasks {
		data, err := os.ReadFile(path) //nolint:gosec // of /proc
		if err != nil {
			continue // the thread has just ended
		}
		ran, _, _ := strings.Cut(string(data), " ")
		nanos, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(nanos)
	}
	return total, nil
}

// idle is for how long the machine's cores have had nothing to do, added up, and how many
// there are. Of what the kernel says of them that alone is measured; the times of those
// that were busy it counts by a look at each of its ticks, which misses much.
func idle() (total time.Duration, cores int, err error) {
	const tick = time.Second / 100 // USER_HZ
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || len(fields[0]) < 4 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		cores++
		for _, field := range fields[4:6] { // idle, and idle but for a disk
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/stat: %w", err)
			}
			total += time.Duration(ticks) * tick
		}
	}
	if cores == 0 {
		return 0, 0, errors.New("/proc/stat names no core")
	}
	return total, cores, nil
}

// memory is what the process has in use, in bytes.
func (p *process) memory() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10, err
		}
	}
	return 0, errors.New("the kernel does not say what memory is in use")
}

// freePorts returns so many ports, no two the same, that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }() // not before all are found: the next could be the same
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// listens waits until the port accepts connections.
func (p *process) listens(ctx context.Context, port int) error {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", local(port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%v does not start: %w\n%s", p.cmd.Args, ctx.Err(), p.log)
		}
	}
}

// ready waits until the URL is answered with 200.
func (p *process) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%v does not become ready: %w\n%s", p.cmd.Args, ctx.Err(), p.log)
		}
	}
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
