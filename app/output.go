package app

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/voxedge/voxedge/session"
)

// output takes samples and is a WAV file or a player.
type output interface {
	io.WriteCloser
	Name() string
}

func openOutput(path string, stdout io.Writer) (output, error) {
	switch path {
	case "":
		player, err := startPlayer()
		if err != nil {
			return nil, &fault{exitFailed, err.Error(), "Give a file with -o hello.wav, or install aplay (alsa-utils) or ffplay (ffmpeg)"}
		}
		return player, nil
	case "-":
		return &wav{w: nopCloser{stdout}, name: "standard output"}, nil
	}
	f, err := openLater(path)
	if err != nil {
		return nil, &fault{exitFailed, err.Error(), "Give a file that can be written, in a directory that there is, such as -o hello.wav"}
	}
	return &wav{w: f, name: path}, nil
}

// openLater opens a file and leaves what is in it until there is better.
func openLater(path string) (*laterFile, error) {
	_, err := os.Stat(path)
	isNew := errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	return &laterFile{f, isNew, false}, err
}

// laterFile is a file that is emptied by the first write, or removed by Close
// when it is new and there was none.
type laterFile struct {
	*os.File
	isNew   bool
	written bool
}

func (f *laterFile) Write(p []byte) (int, error) {
	if !f.written {
		f.written = true
		if isRegular(f.File) {
			if err := f.Truncate(0); err != nil {
				return 0, err
			}
		}
	}
	return f.File.Write(p)
}

func (f *laterFile) Close() error {
	err := f.File.Close()
	if f.isNew && !f.written {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// wav writes a WAV file, beginning with the first samples, whose length is set
// right at the end, where the file can be gone back in.
type wav struct {
	w     io.WriteCloser
	name  string
	begun bool
	bytes uint32
}

const wavHeader = 44

// header is that of a mono 16-bit PCM WAV of so many bytes of samples.
func header(bytes uint32) []byte {
	const frame = 2 // bytes of a sample
	b := append([]byte("RIFF"), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[4:], bytes+wavHeader-8)
	b = append(b, "WAVEfmt "...)
	for _, v := range []any{uint32(16), uint16(1), uint16(1), uint32(session.SampleRate), uint32(session.SampleRate * frame), uint16(frame), uint16(8 * frame)} {
		b, _ = binary.Append(b, binary.LittleEndian, v)
	}
	b = append(b, "data"...)
	return binary.LittleEndian.AppendUint32(b, bytes)
}

func (w *wav) Name() string { return w.name }

func (w *wav) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		if _, err := w.w.Write(header(math.MaxUint32 - wavHeader)); err != nil {
			return 0, err
		}
	}
	n, err := w.w.Write(p)
	w.bytes += uint32(n)
	return n, err
}

func (w *wav) Close() error {
	if f, ok := w.w.(*laterFile); ok && w.begun && isRegular(f.File) {
		if _, err := f.WriteAt(header(w.bytes), 0); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return w.w.Close()
}

// isRegular reports whether one can go back in the file: in a pipe one cannot.
func isRegular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// player is a program that plays what it is given.
type player struct {
	io.WriteCloser
	cmd  *exec.Cmd
	name string
}

// players are the programs that play raw samples from standard input, the
// likeliest first. afplay is not one of them: it takes a file.
var players = [][]string{
	{"aplay", "-q", "-t", "raw", "-f", "S16_LE", "-r", "48000", "-c", "1"},
	{"ffplay", "-loglevel", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", "48000", "-ch_layout", "mono", "-i", "-"},
	{"afplay"},
}

func findPlayer() ([]string, error) {
	for _, p := range players {
		if path, err := exec.LookPath(p[0]); err == nil {
			return append([]string{path}, p[1:]...), nil
		}
	}
	return nil, errors.New("no player is installed")
}

func startPlayer() (output, error) {
	args, err := findPlayer()
	if err != nil {
		return nil, err
	}
	name := filepath.Base(args[0])
	if name == "afplay" {
		return newFilePlayer(args[0])
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &player{in, cmd, name}, nil
}

func (p *player) Name() string { return p.name }

// Close waits until all is played.
func (p *player) Close() error {
	err := p.WriteCloser.Close()
	if waitErr := p.cmd.Wait(); waitErr != nil {
		return fmt.Errorf("%s: %w", p.name, waitErr)
	}
	return err
}

// filePlayer collects a WAV file and plays it at the end.
type filePlayer struct {
	*wav
	path, player string
}

func newFilePlayer(path string) (output, error) {
	f, err := os.CreateTemp("", "voxedge-*.wav")
	if err != nil {
		return nil, err
	}
	return &filePlayer{&wav{w: &laterFile{File: f}, name: filepath.Base(path)}, f.Name(), path}, nil
}

func (p *filePlayer) Close() error {
	defer func() { _ = os.Remove(p.path) }()
	if err := p.wav.Close(); err != nil || p.bytes == 0 {
		return err
	}
	return exec.Command(p.player, p.path).Run()
}
