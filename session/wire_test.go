package session

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"testing"
)

func randomPCM() []byte {
	pcm := make([]byte, FrameBytes)
	for i := range pcm {
		pcm[i] = byte(rand.Uint32())
	}
	return pcm
}

func TestAppendAudioIsTheContractsJSON(t *testing.T) {
	pcm := randomPCM()
	data := appendAudio(nil, pcm, 1<<63)
	var m map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&m); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "audio", "pcm": base64.StdEncoding.EncodeToString(pcm),
		"sample_rate": json.Number("48000"), "frame_ms": json.Number("20"), "sequence": json.Number("9223372036854775808")}
	if len(m) != len(want) {
		t.Errorf("fields: %v", m)
	}
	for k, v := range want {
		if m[k] != v {
			t.Errorf("%s = %v, want %v", k, m[k], v)
		}
	}
	if len(data) > MaxAudioMessage {
		t.Errorf("%d bytes, more than MaxAudioMessage", len(data))
	}
}

func TestAppendBinaryAudioIsTheContractsHeader(t *testing.T) {
	pcm := randomPCM()
	data := appendBinaryAudio(nil, pcm, 77)
	if len(data) != 16+FrameBytes || data[0] != 1 || data[1] != 0 ||
		binary.LittleEndian.Uint16(data[2:]) != 20 || binary.LittleEndian.Uint32(data[4:]) != 48000 ||
		binary.LittleEndian.Uint64(data[8:]) != 77 || !bytes.Equal(data[16:], pcm) {
		t.Errorf("header % x", data[:16])
	}
}

func TestEncodingAFrameDoesNotAllocate(t *testing.T) {
	pcm, buf := randomPCM(), make([]byte, 0, MaxAudioMessage)
	if n := testing.AllocsPerRun(100, func() { buf = appendAudio(buf[:0], pcm, 1e9) }); n != 0 {
		t.Errorf("JSON: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = appendBinaryAudio(buf[:0], pcm, 1e9) }); n != 0 {
		t.Errorf("binary: %v allocations", n)
	}
}
