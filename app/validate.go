package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/voxedge/voxedge/doctor"
)

// validate holds the environment, or a file of one, against what voxedge takes.
// It shows no value of a variable that is right, and of REDIS_URL none at all.
func validate(_ context.Context, c command) error {
	flags := c.flags("validate")
	file := flags.String("env-file", "", "a file of NAME=value lines to validate in place of the environment")
	if err := flags.Parse(c.args); err != nil {
		return usageError(err)
	}
	if flags.NArg() > 0 {
		return &fault{exitUsage, fmt.Sprintf("voxedge validate takes no argument, but was given %q", flags.Arg(0)), "Give a file with --env-file FILE; without it the environment is validated"}
	}
	environ := c.environ
	var lines []Problem
	if *file != "" {
		var err error
		if environ, lines, err = readEnvFile(*file); err != nil {
			return &fault{exitUsage, err.Error(), "Give a file of NAME=value lines, such as .env.example"}
		}
	}
	cfg, problems := LoadConfig(environ)
	problems = append(lines, problems...)
	problems = append(problems, cfg.checkServe()...)
	problems = append(problems, cfg.checkPlatform(environ)...)
	misspelt := misspellings(environ)
	c.complain(append(problems, misspelt...), environ)
	if len(problems)+len(misspelt) > 0 {
		return exitWith(exitUsage)
	}
	_, _ = fmt.Fprintln(c.stdout, "✅ The environment is valid.")
	return nil
}

func (c command) complain(problems []Problem, environ map[string]string) {
	for _, p := range problems {
		_, _ = fmt.Fprintf(c.stdout, "❌ %-26s %s. %s.\n", doctor.Shown(p.Name), doctor.Shown(withoutUser(p.Cause, environ[p.Name])), p.Resolution)
	}
	if len(problems) > 0 {
		_, _ = fmt.Fprintf(c.stdout, "\n%d to correct: %s. All variables are in .env.example.\n", len(problems), doctor.ConfigInvalid.Link())
	}
}

// withoutUser is the text without the user and password of the URLs in the value,
// though it may have cut them short.
func withoutUser(text, value string) string {
	for part := range strings.SplitSeq(value, ",") {
		at := strings.LastIndex(part, "@")
		if at < 0 {
			continue
		}
		user := strconv.Quote(part[:at])
		user = user[1 : len(user)-1] // as it is quoted
		if _, rest, ok := strings.Cut(user, "://"); ok {
			user = rest
		}
		for n := len(user); n > 3 || n > 0 && n == len(user); n-- { // fewer would be anything
			if strings.Contains(text, user[:n]) {
				text = strings.ReplaceAll(text, user[:n], "***")
				break
			}
		}
	}
	return text
}

// readEnvFile reads NAME=value lines as docker compose does: comments, export
// and quotes around a value are left off.
func readEnvFile(path string) (map[string]string, []Problem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	return parseEnv(f)
}

func parseEnv(from io.Reader) (environ map[string]string, problems []Problem, err error) {
	environ = map[string]string{}
	set := map[string]int{} // the line of each
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			problems = append(problems, Problem{fmt.Sprintf("line %d", n), "it is not NAME=value", "Correct it, or put a # before it"})
			continue
		}
		if before := set[name]; before > 0 {
			problems = append(problems, Problem{name, fmt.Sprintf("line %d sets it again, after line %d", n, before), "Leave one of the two"})
		}
		set[name] = n
		environ[name] = unquote(strings.TrimSpace(value))
	}
	return environ, problems, lines.Err()
}

func unquote(value string) string {
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		if inner, _, closed := strings.Cut(value[1:], value[:1]); closed {
			return inner
		}
	}
	value, _, _ = strings.Cut(value, " #")
	return strings.TrimSpace(value)
}
