package worker

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

func wavChunk(id string, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(id), uint32(len(body)))
	return append(b, body...)
}

func wavFormat(channels uint16, rate uint32, bits uint16, extra ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, 1)
	b = binary.LittleEndian.AppendUint16(b, channels)
	b = binary.LittleEndian.AppendUint32(b, rate)
	b = binary.LittleEndian.AppendUint32(b, rate*uint32(channels)*uint32(bits)/8)
	b = binary.LittleEndian.AppendUint16(b, channels*bits/8)
	b = binary.LittleEndian.AppendUint16(b, bits)
	return wavChunk("fmt ", append(b, extra...))
}

// wavData is the start of the samples as espeak-ng writes it to a pipe: with a
// length that means nothing.
var wavData = []byte{'d', 'a', 't', 'a', 0, 0xf0, 0xff, 0x7f}

func wavFile(chunks ...[]byte) []byte {
	return append([]byte("RIFF\x24\xf0\xff\x7fWAVE"), bytes.Join(chunks, nil)...)
}

func TestReadWAVHeaderStopsAtTheSamples(t *testing.T) {
	tests := []struct {
		name   string
		header []byte
		rate   int
	}{
		{"espeak-ng's", wavFile(wavFormat(1, 22050, 16), wavData), 22050},
		{"the lowest rate", wavFile(wavFormat(1, 4000, 16), wavData), 4000},
		{"the highest rate", wavFile(wavFormat(1, 192_000, 16), wavData), 192_000},
		{"a longer format", wavFile(wavFormat(1, 16000, 16, 0, 0), wavData), 16000},
		{"a chunk before the format", wavFile(wavChunk("JUNK", make([]byte, 28)), wavFormat(1, 16000, 16), wavData), 16000},
		{"a chunk after the format", wavFile(wavFormat(1, 16000, 16), wavChunk("LIST", make([]byte, 300)), wavData), 16000},
		{"an empty chunk", wavFile(wavFormat(1, 16000, 16), wavChunk("fact", nil), wavData), 16000},
		// RIFF keeps chunks at even places; the byte between is not counted.
		{"a chunk of odd size", wavFile(wavFormat(1, 16000, 16), append(wavChunk("LIST", []byte("odd")), 0), wavData), 16000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := io.MultiReader(bytes.NewReader(tt.header), strings.NewReader("samples"))
			rate, err := readWAVHeader(r)
			if err != nil || rate != tt.rate {
				t.Fatalf("read %d Hz, %v; want %d", rate, err, tt.rate)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "samples" {
				t.Errorf("the samples begin with %.20q", rest)
			}
		})
	}
}

func TestReadWAVHeaderRefuses(t *testing.T) {
	good := wavFile(wavFormat(1, 22050, 16), wavChunk("LIST", make([]byte, 10)), wavData)
	tests := map[string][]byte{
		"another file":         []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		"another RIFF":         []byte("RIFF\x24\x00\x00\x00AVI LIST\x00\x00\x00\x00"),
		"stereo":               wavFile(wavFormat(2, 22050, 16), wavData),
		"8 bits":               wavFile(wavFormat(1, 22050, 8), wavData),
		"24 bits":              wavFile(wavFormat(1, 22050, 24), wavData),
		"too low a rate":       wavFile(wavFormat(1, 3999, 16), wavData),
		"too high a rate":      wavFile(wavFormat(1, 192_001, 16), wavData),
		"no rate":              wavFile(wavFormat(1, 0, 16), wavData),
		"samples first":        wavFile(wavData, wavFormat(1, 22050, 16)),
		"a format too short":   wavFile(wavChunk("fmt ", make([]byte, 14)), wavData),
		"a format too long":    wavFile(wavFormat(1, 22050, 16, make([]byte, 49)...), wavData),
		"a chunk past the end": wavFile(wavFormat(1, 22050, 16), []byte("LIST\xff\xff\xff\xffdata")),
	}
	for name, header := range tests {
		if rate, err := readWAVHeader(bytes.NewReader(header)); err == nil {
			t.Errorf("%s: was read as %d Hz", name, rate)
		}
	}
	for n := range good {
		if rate, err := readWAVHeader(bytes.NewReader(good[:n])); err == nil {
			t.Errorf("cut off after %d bytes of %d: was read as %d Hz", n, len(good), rate)
		}
	}
}

// espeak-ng ends without a byte when there is nothing to say. A header that
// ends early is another matter: the sound is lost, and someone must hear of it.
func TestResampleWAVTellsNothingFromACutOffHeader(t *testing.T) {
	good := wavFile(wavFormat(1, 22050, 16), wavChunk("LIST", make([]byte, 10)), wavData)
	for n := range good {
		var out bytes.Buffer
		err := resampleWAV(bytes.NewReader(good[:n]), &out)
		if (err == nil) != (n == 0) {
			t.Errorf("cut off after %d bytes of %d: the error is %v", n, len(good), err)
		}
		if out.Len() > 0 {
			t.Errorf("cut off after %d bytes: %d bytes of sound", n, out.Len())
		}
	}
}

func FuzzReadWAVHeader(f *testing.F) {
	f.Add(wavFile(wavFormat(1, 22050, 16), wavData))
	f.Add(wavFile(wavChunk("JUNK", make([]byte, 5)), wavFormat(1, 48000, 16, 0, 0), wavData))
	f.Add([]byte("RIFF"))
	f.Add(wavFile([]byte("LIST\xff\xff\xff\xff")))
	f.Fuzz(func(t *testing.T, data []byte) {
		rate, err := readWAVHeader(bytes.NewReader(data))
		if (err == nil) != (rate >= 4000 && rate <= 192_000) {
			t.Errorf("the rate is %d and the error %v", rate, err)
		}
	})
}
