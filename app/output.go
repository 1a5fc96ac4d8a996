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
		return startPlayer()
	case "-":
		return newWAV(nopCloser{stdout}, "standard output")
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return newWAV(f, path)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// wav writes a WAV file whose length is set right at the end, where the file
// can be gone back in.
type wav struct {
	w     io.WriteCloser
	name  string
	bytes uint32
}

const wavHeader = 44

func newWAV(w io.WriteCloser, name string) (*wav, error) {
	if _, err := w.Write(header(math.MaxUint32 - wavHeader)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &wav{w: w, name: name}, nil
}

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
	n, err := w.w.Write(p)
	w.bytes += uint32(n)
	return n, err
}

func (w *wav) Close() error {
	if f, ok := w.w.(*os.File); ok && isRegular(f) {
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
	w, err := newWAV(f, filepath.Base(path))
	return &filePlayer{w, f.Name(), path}, err
}

func (p *filePlayer) Close() error {
	defer func() { _ = os.Remove(p.path) }()
	if err := p.wav.Close(); err != nil {
		return err
	}
	return exec.Command(p.player, p.path).Run()
}
