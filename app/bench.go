package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/voxedge/voxedge/bench"
	"github.com/voxedge/voxedge/session"
)

// runBench measures this program against a bare relay.
func runBench(ctx context.Context, c command) error {
	if len(c.args) > 0 {
		switch c.args[0] {
		case "relay", "source": // the processes of the reference
			return benchPart(ctx, c.args)
		}
	}
	o := bench.Options{Progress: c.stderr}
	flags := c.flags("bench")
	flags.IntSliceVar(&o.Sessions, "sessions", []int{1, 100, 500, 1000, 1300, 2000}, "paced sessions, a run for each number")
	flags.DurationVar(&o.Window, "window", 3*time.Second, "how long each measurement lasts")
	flags.IntVar(&o.Rounds, "rounds", 4, "measurements of the relay and the edge in turn")
	flags.IntVar(&o.Idle, "idle", 2000, "connections that say nothing")
	flags.StringVar(&o.Only, "only", "", "only scenarios whose names have this in them, such as 'paced, JSON' or idle")
	flags.DurationVar(&o.Interval, "interval", session.FrameDuration, "the edge's PACING_INTERVAL")
	out := flags.String("out", "", "directory for results.json, table.md, cost.svg and latency.svg, of all scenarios")
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	if flags.NArg() > 0 {
		return &fault{exitUsage, fmt.Sprintf("voxedge bench takes no argument, but was given %q", flags.Arg(0)), "'voxedge bench --help' lists its flags"}
	}
	slices.Sort(o.Sessions)
	o.Sessions = slices.Compact(o.Sessions)
	if wrong := benchLimits(o); wrong != nil {
		return wrong
	}
	if *out != "" && len(o.Sessions) < 2 {
		return &fault{exitUsage, "a plot of cost against sessions needs two numbers of --sessions", "Leave out --out, or give two numbers"}
	}
	if *out != "" && (o.Only != "" || o.Interval != session.FrameDuration) {
		return &fault{exitUsage, "a report is of all scenarios as the edge is by default, and --only or --interval change that", "Leave out --out, or --only and --interval"}
	}
	if _, problems := LoadConfig(map[string]string{"PACING_INTERVAL": o.Interval.String()}); len(problems) > 0 {
		return &fault{exitUsage, "--interval: " + problems[0].Cause, problems[0].Resolution}
	}
	if *out != "" { // before half an hour is spent
		if err := os.MkdirAll(*out, 0o755); err != nil { //nolint:gosec // for all to read
			return &fault{exitUsage, "--out: " + err.Error(), "Name a directory that can be made"}
		}
	}
	report, err := bench.Run(ctx, o)
	if len(report.Results) > 0 || report.Idle.Connections > 0 { // also those before an error, which took their time
		_, _ = io.WriteString(c.stdout, report.Table())
	}
	if ctx.Err() != nil {
		return &fault{exitFailed, "the measurement was interrupted", "Run it again; --sessions, --window, --rounds and --only shorten it"}
	}
	if err != nil {
		return &fault{exitFailed, "the measurement ended: " + err.Error(), "See that nothing else needs the machine's memory and files (ulimit -n)"}
	}
	if len(report.Results) == 0 && report.Idle.Connections == 0 {
		return &fault{exitUsage, fmt.Sprintf("no scenario has %q in its name", o.Only), "Name one of the table, such as 'paced, JSON' or idle"}
	}
	if *out == "" {
		return nil
	}
	return keepReport(report, *out)
}

// benchLimits says what of the numbers cannot be measured.
func benchLimits(o bench.Options) error {
	if len(o.Sessions) == 0 {
		return &fault{exitUsage, "--sessions names no number", "Give one or more, such as 500,1000"}
	}
	most := slices.Max(o.Sessions)
	for _, n := range []struct {
		flag      string
		is, limit int
	}{
		{"sessions", slices.Min(o.Sessions), bench.MostConnections},
		{"sessions", most, bench.MostConnections},
		{"idle", o.Idle, bench.MostConnections / 2},
		{"rounds", o.Rounds, 1000},
	} {
		if n.is < 1 || n.is > n.limit {
			return &fault{exitUsage, fmt.Sprintf("--%s cannot be %d", n.flag, n.is), fmt.Sprintf("Give 1 to %d", n.limit)}
		}
	}
	if o.Window < bench.ShortestWindow || o.Window > time.Hour {
		return &fault{exitUsage, fmt.Sprintf("--window cannot be %s", o.Window), fmt.Sprintf("Give %s to 1h", bench.ShortestWindow)}
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if need := uint64(max(most, 2*o.Idle) + 500); need > uint64(files.Max) { //nolint:gosec,unconvert // some systems have it signed
		return &fault{exitUsage, fmt.Sprintf("so many connections need %d open files, and a process may have %d", need, files.Max),
			fmt.Sprintf("Raise that (ulimit -Hn %d), or give fewer --sessions or --idle", need)}
	}
	return nil
}

func keepReport(report *bench.Report, dir string) error {
	data, err := json.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"results.json": append(data, '\n'), "table.md": []byte(report.Table())} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // for all to read
			return err
		}
	}
	for name, plot := range map[string]func(io.Writer) error{"cost.svg": report.PlotCost, "latency.svg": report.PlotLatency} {
		f, err := os.Create(filepath.Join(dir, name)) //nolint:gosec // where it was asked for
		if err != nil {
			return err
		}
		if err := plot(f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// benchPart is a process of the reference: source ADDR BYTES EVERY, or
// relay ADDR BYTES SOURCE.
func benchPart(ctx context.Context, args []string) error {
	wrong := &fault{exitUsage, "voxedge bench relay and source are for voxedge bench to start", "Run voxedge bench"}
	if len(args) != 4 {
		return wrong
	}
	messageBytes, err := strconv.Atoi(args[2])
	if err != nil || messageBytes < 16 {
		return wrong
	}
	if args[0] == "relay" {
		return bench.Relay(ctx, args[1], args[3], messageBytes)
	}
	every, err := time.ParseDuration(args[3])
	if err != nil {
		return wrong
	}
	return bench.Source(ctx, args[1], messageBytes, every)
}
