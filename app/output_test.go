package app

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// samplesOf returns the samples of a WAV whose header must be right in every
// field; bytes is what its length fields say, or -1 for as many as there are.
func samplesOf(t *testing.T, file []byte, bytes int64) []byte {
	t.Helper()
	if len(file) < wavHeader {
		t.Fatalf("the file has %d bytes, less than a header", len(file))
	}
	samples := file[wavHeader:]
	if bytes < 0 {
		bytes = int64(len(samples))
	}
	le := binary.LittleEndian
	for _, field := range []struct {
		name string
		at   int
		got  any
		want any
	}{
		{"RIFF", 0, string(file[0:4]), "RIFF"},
		{"the file's length", 4, int64(le.Uint32(file[4:])), bytes + 36},
		{"WAVE", 8, string(file[8:12]), "WAVE"},
		{"fmt", 12, string(file[12:16]), "fmt "},
		{"the format's length", 16, le.Uint32(file[16:]), uint32(16)},
		{"PCM", 20, le.Uint16(file[20:]), uint16(1)},
		{"channels", 22, le.Uint16(file[22:]), uint16(1)},
		{"the rate", 24, le.Uint32(file[24:]), uint32(48000)},
		{"bytes a second", 28, le.Uint32(file[28:]), uint32(96000)},
		{"bytes a sample", 32, le.Uint16(file[32:]), uint16(2)},
		{"bits a sample", 34, le.Uint16(file[34:]), uint16(16)},
		{"data", 36, string(file[36:40]), "data"},
		{"the samples' length", 40, int64(le.Uint32(file[40:])), bytes},
	} {
		if field.got != field.want {
			t.Errorf("%s, at %d, is %v, want %v", field.name, field.at, field.got, field.want)
		}
	}
	return samples
}

// endless is the length of a WAV that is written to where one cannot go back.
const endless = 1<<32 - 1 - wavHeader

func TestWAVFileHasItsLength(t *testing.T) {
	for _, writes := range [][]int{{0}, {1920}, {1920, 2, 960}} {
		path := filepath.Join(t.TempDir(), "a.wav")
		out, err := openOutput(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for i, n := range writes {
			part := bytes.Repeat([]byte{byte(i + 1)}, n)
			want = append(want, part...)
			if got, err := out.Write(part); err != nil || got != n {
				t.Fatalf("Write returned %d, %v", got, err)
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(samplesOf(t, file, -1), want) {
			t.Error("the samples are not those written")
		}
		if out.Name() != path {
			t.Errorf("the output calls itself %q", out.Name())
		}
	}
}

// What was said before stays until there is something better.
func TestWAVFileIsLeftAloneUntilThereIsSound(t *testing.T) {
	old, fresh := filepath.Join(t.TempDir(), "old.wav"), filepath.Join(t.TempDir(), "new.wav")
	if err := os.WriteFile(old, []byte("what was said before, and longer than a header and four bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{old, fresh} {
		out, err := openOutput(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if file, err := os.ReadFile(old); err != nil || !bytes.HasPrefix(file, []byte("what was said")) {
		t.Errorf("the old file is %q, %v", file, err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of nothing is left: %v", err)
	}
	out, err := openOutput(old, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("abcd")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	if got := samplesOf(t, file, -1); string(got) != "abcd" {
		t.Errorf("the samples are %q", got)
	}
}

func TestWAVToStandardOutputIsEndless(t *testing.T) {
	var stdout bytes.Buffer
	out, err := openOutput("-", &stdout)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("abcd")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if got := samplesOf(t, stdout.Bytes(), endless); string(got) != "abcd" {
		t.Errorf("the samples are %q", got)
	}
}

// -o /dev/stdout and named pipes are files in which one cannot go back.
func TestWAVToAPipeIsEndless(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0) // so that neither end waits for the other
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	out, err := openOutput(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("abcd")); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	file := make([]byte, wavHeader+4)
	if _, err := io.ReadFull(r, file); err != nil {
		t.Fatal(err)
	}
	if got := samplesOf(t, file, endless); string(got) != "abcd" {
		t.Errorf("the samples are %q", got)
	}
}

func TestOutputThatCannotBeOpened(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for path, resolution := range map[string]string{filepath.Join(t.TempDir(), "none", "a.wav"): "a directory", "": "install aplay"} {
		_, err := openOutput(path, nil)
		if f, ok := errors.AsType[*fault](err); !ok || !strings.Contains(f.resolution, resolution) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// installPlayer makes a program of that name the only one there is. It gets
// the path to write to as $OUT.
func installPlayer(t *testing.T, name, script string) (heard string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Fatal("players are shell scripts here")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	heard = filepath.Join(dir, "heard")
	t.Setenv("PATH", dir)
	t.Setenv("OUT", heard)
	return heard
}

func TestPlayerHearsAllBeforeCloseReturns(t *testing.T) {
	tests := []struct {
		name, script string
		wav          bool // it is given a file
	}{
		{"aplay", `exec /bin/cat >"$OUT"`, false},
		{"ffplay", `exec /bin/cat >"$OUT"`, false},
		{"afplay", `exec /bin/cat "$1" >"$OUT"`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			heard := installPlayer(t, tt.name, tt.script)
			out, err := openOutput("", nil)
			if err != nil {
				t.Fatal(err)
			}
			if out.Name() != tt.name {
				t.Errorf("the output calls itself %q", out.Name())
			}
			want := bytes.Repeat([]byte("sound"), 100_000)
			if _, err := out.Write(want); err != nil {
				t.Fatal(err)
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(heard)
			if err != nil {
				t.Fatal(err)
			}
			if tt.wav {
				got = samplesOf(t, got, -1)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the player heard %d bytes, want the %d written", len(got), len(want))
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "voxedge-*")); len(left) > 0 {
				t.Errorf("%q is left behind", left)
			}
		})
	}
}

func TestPlayerThatFailsIsAnError(t *testing.T) {
	for _, name := range []string{"aplay", "afplay"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			installPlayer(t, name, `/bin/cat >/dev/null; exit 3`)
			out, err := openOutput("", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := out.Write([]byte("sound")); err != nil {
				t.Fatal(err)
			}
			if err := out.Close(); err == nil {
				t.Error("Close says nothing of a player that failed")
			}
		})
	}
}
