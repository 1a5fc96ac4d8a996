package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/voxedge/voxedge/doctor"
	"github.com/voxedge/voxedge/telemetry"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // something went wrong while running
	exitUsage  = 2 // the command line or the environment is wrong
)

const usage = `voxedge is the edge service for real-time voice.

  voxedge [serve]        the edge: WebSockets on PORT, health on HEALTH_PORT
  voxedge dev            edge, worker and Redis in one process, nothing to install
  voxedge worker         the reference text-to-speech worker
  voxedge say "text"     speak through a running edge, to the speakers or a file
  voxedge doctor [URL]   find out why a client cannot connect, and what to do
  voxedge preflight      see, before the start, that all it needs is there
  voxedge validate       hold the environment against what it must be
  voxedge newkey NAME    make an API key, and the entry of API_KEYS for it
  voxedge bench          measure what a frame costs, beside a bare relay
  voxedge healthcheck    exit 0 when the edge here (or --worker, the worker) is ready
  voxedge version        what this is

Configuration is by environment variables alone; .env.example lists them.
'voxedge say --help' lists what say takes.
`

// command is what a subcommand is given.
type command struct {
	args    []string
	environ map[string]string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

// fault is an error for whoever started the command.
type fault struct {
	status     int
	cause      string
	resolution string
}

func (f *fault) Error() string { return f.cause + ". " + f.resolution + "." }

// Main runs the command line and returns the exit status.
func Main(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := command{environ: environMap(environ), stdin: stdin, stdout: stdout, stderr: stderr}
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	c.args = args
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, cancel) // a second signal ends the process the hard way

	run, ok := map[string]func(context.Context, command) error{
		"serve": serve, "dev": dev, "worker": runWorker, "say": say, "doctor": runDoctor, "preflight": preflight, "validate": validate, "newkey": newKey, "bench": runBench, "healthcheck": healthcheck, "version": version, "help": help,
	}[name]
	if !ok {
		_, _ = fmt.Fprintf(stderr, "voxedge: there is no command %q.\n\n%s", name, usage)
		return exitUsage
	}
	err := run(ctx, c)
	var f *fault
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case errors.As(err, &f):
		if f.cause != "" {
			_, _ = fmt.Fprintln(stderr, "voxedge: "+f.Error())
		}
		return f.status
	}
	_, _ = fmt.Fprintln(stderr, "voxedge:", err)
	return exitFailed
}

func environMap(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, s := range environ {
		if name, value, ok := strings.Cut(s, "="); ok {
			m[name] = value
		}
	}
	return m
}

func help(_ context.Context, c command) error {
	_, _ = io.WriteString(c.stdout, usage)
	return nil
}

func version(_ context.Context, c command) error {
	v, revision := "development", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	_, _ = fmt.Fprintf(c.stdout, "voxedge %s%s\n", v, revision)
	return nil
}

// noArguments reads the command line of a subcommand that takes none.
func (c command) noArguments(name string) error {
	flags := c.flags(name)
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	return noMore(flags)
}

// noMore refuses what is left of the command line behind the flags.
func noMore(flags *pflag.FlagSet) error {
	if flags.NArg() == 0 {
		return nil
	}
	return &fault{exitUsage, fmt.Sprintf("%s takes no argument, but was given %q", flags.Name(), flags.Arg(0)),
		"Configure it by environment variables; .env.example lists them"}
}

func (c command) flags(name string) *pflag.FlagSet {
	flags := pflag.NewFlagSet("voxedge "+name, pflag.ContinueOnError)
	flags.SetOutput(c.stderr)
	flags.Usage = func() {
		_, _ = fmt.Fprintf(c.stderr, "%s\nvoxedge %s\n%s", usage, name, flags.FlagUsages())
	}
	return flags
}

func usageError(err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return &fault{exitUsage, err.Error(), "Put --help behind the command: it lists what there is"}
}

// configure reads the environment and sets up the log on out. What is wrong is
// logged, a line a problem, and comes back as a fault that is already told.
// more are the checks of the subcommand alone.
func (c command) configure(out io.Writer, more ...func(*Config) []Problem) (Config, *slog.Logger, error) {
	level := new(slog.LevelVar)
	log := telemetry.NewLog(out, level)
	cfg, problems := LoadConfig(c.environ)
	for _, check := range more {
		problems = append(problems, check(&cfg)...)
	}
	for _, p := range misspellings(c.environ) {
		log.Warn("configuration: unknown variable", "variable", p.Name, "cause", p.Cause, "resolution", p.Resolution)
	}
	for _, p := range problems {
		log.Error("configuration: bad value", "variable", p.Name, "cause", doctor.Shown(withoutUser(p.Cause, c.environ[p.Name])), "resolution", p.Resolution)
	}
	if len(problems) > 0 {
		return cfg, log, &fault{status: exitUsage}
	}
	level.Set(telemetry.Levels[cfg.LogLevel])
	cfg.level = level
	return cfg, log, nil
}

// told logs an error's cause and resolution, and returns a fault that Main
// does not tell again.
func told(log *slog.Logger, what string, err error) error {
	if err == nil {
		return nil
	}
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = &fault{exitFailed, err.Error(), "look at the lines before this one"}
	}
	if f.cause != "" {
		log.Error(what, "cause", f.cause, "resolution", f.resolution)
	}
	return &fault{status: f.status}
}
