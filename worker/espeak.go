package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Espeak is an engine that runs espeak-ng, once a sentence.
type Espeak struct {
	path      string
	languages []string
}

// NewEspeak finds espeak-ng and the languages it speaks.
func NewEspeak() (*Espeak, error) {
	path, err := exec.LookPath("espeak-ng")
	if err != nil {
		return nil, errors.New("espeak-ng is not installed")
	}
	list, err := exec.Command(path, "--voices").Output()
	if err != nil {
		return nil, fmt.Errorf("espeak-ng --voices: %w", err)
	}
	e := &Espeak{path: path}
	for line := range strings.Lines(string(list)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] != "Pty" {
			e.languages = append(e.languages, fields[1])
		}
	}
	if len(e.languages) == 0 {
		return nil, errors.New("espeak-ng has no voices; install espeak-ng-data")
	}
	return e, nil
}

// Models returns the one model.
func (e *Espeak) Models() []Model {
	return []Model{{ID: "espeak-ng", Family: "formant", Languages: e.languages}}
}

// Open reads the options language, speed (words a minute) and pitch (0 to 99).
func (e *Espeak) Open(_ string, options map[string]string) (Voice, error) {
	args := []string{"--stdin", "--stdout", "-b", "1"}
	if language := strings.ToLower(options["language"]); language != "" {
		primary, _, _ := strings.Cut(language, "-")
		switch {
		case slices.Contains(e.languages, language):
			args = append(args, "-v", language)
		case slices.ContainsFunc(e.languages, func(l string) bool { return l == primary || strings.HasPrefix(l, primary+"-") }):
			args = append(args, "-v", primary)
		default:
			return nil, fmt.Errorf("the language %.40q is not one of espeak-ng's", language)
		}
	}
	for _, o := range []struct {
		name, flag string
		low, high  int
	}{{"speed", "-s", 80, 450}, {"pitch", "-p", 0, 99}} {
		value, ok := options[o.name]
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(value); err != nil || n < o.low || n > o.high {
			return nil, fmt.Errorf("the option %s %.40q is not a number from %d to %d", o.name, value, o.low, o.high)
		}
		args = append(args, o.flag, value)
	}
	return &espeakVoice{path: e.path, args: args}, nil
}

type espeakVoice struct {
	path string
	args []string
}

// PartsStandAlone is true: each is a process of its own.
func (*espeakVoice) PartsStandAlone() bool { return true }

// Speak runs espeak-ng for the text and resamples its output as it comes.
func (v *espeakVoice) Speak(ctx context.Context, text string, out io.Writer) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, v.path, v.args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(text, "\x00", " ")) // it would stop there
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	sound, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	speakErr := resampleWAV(sound, out)
	if speakErr != nil {
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case speakErr != nil && !errors.Is(speakErr, io.ErrUnexpectedEOF):
		return speakErr
	case ctx.Err() != nil && speakErr == nil:
		return ctx.Err()
	case waitErr != nil:
		return fmt.Errorf("espeak-ng: %w: %s", waitErr, strings.TrimSpace(complaint.String()))
	}
	return speakErr
}

// resampleWAV reads a WAV stream whose length is not known at its start.
func resampleWAV(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	if _, err := r.Peek(1); errors.Is(err, io.EOF) { // nothing to say
		return nil
	}
	rate, err := readWAVHeader(r)
	if err != nil {
		return err
	}
	to := newResampler(rate, out)
	if _, err := io.Copy(to, r); err != nil {
		return err
	}
	return to.Close()
}

// readWAVHeader reads up to the samples of a mono 16-bit PCM WAV and returns
// its sample rate. A header that is cut off is io.ErrUnexpectedEOF.
func readWAVHeader(r io.Reader) (rate int, err error) {
	defer func() {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}()
	var riff [12]byte
	if _, err := io.ReadFull(r, riff[:]); err != nil {
		return 0, err
	}
	if string(riff[:4]) != "RIFF" || string(riff[8:]) != "WAVE" {
		return 0, errors.New("not a WAV file")
	}
	for {
		var chunk [8]byte
		if _, err := io.ReadFull(r, chunk[:]); err != nil {
			return 0, err
		}
		size := int64(binary.LittleEndian.Uint32(chunk[4:]))
		switch string(chunk[:4]) {
		case "data":
			if rate == 0 {
				return 0, errors.New("WAV data before its format")
			}
			return rate, nil
		case "fmt ":
			var f [16]byte
			if size < 16 || size > 64 {
				return 0, errors.New("WAV format of an odd size")
			}
			if _, err := io.ReadFull(r, f[:]); err != nil {
				return 0, err
			}
			size -= 16
			channels, bits := binary.LittleEndian.Uint16(f[2:]), binary.LittleEndian.Uint16(f[14:])
			rate = int(binary.LittleEndian.Uint32(f[4:]))
			if channels != 1 || bits != 16 || rate < 4000 || rate > 192_000 {
				return 0, fmt.Errorf("WAV with %d channels of %d bits at %d Hz", channels, bits, rate)
			}
		}
		size += size % 2 // chunks are padded
		if _, err := io.CopyN(io.Discard, r, size); err != nil {
			return 0, err
		}
	}
}
