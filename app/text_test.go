package app

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/voxedge/voxedge/session"
)

func TestWholeRunes(t *testing.T) {
	tests := []struct {
		bytes string
		whole int
	}{
		{"", 0},
		{"abc", 3},
		{"é", 2}, {"é"[:1], 0}, {"aé"[:2], 1},
		{"世", 3}, {"世"[:1], 0}, {"世"[:2], 0}, {"a世"[:3], 1},
		{"👋", 4}, {"👋"[:1], 0}, {"👋"[:3], 0}, {"世👋"[:6], 3},
		// What is no character will never be one: it must not be held for ever.
		{"\xff", 1}, {"a\xff", 2}, {"\x80\x80\x80\x80\x80", 5}, {"a\x80", 2}, {"é\x80", 3},
	}
	for _, tt := range tests {
		if got := wholeRunes([]byte(tt.bytes)); got != tt.whole {
			t.Errorf("%q has %d bytes of whole characters, want %d", tt.bytes, got, tt.whole)
		}
	}
}

// Wherever a text is cut, what is whole and what is held make it up again.
func FuzzWholeRunes(f *testing.F) {
	f.Add("Grüße, 世界! 👋", uint8(5))
	f.Add("\xf0\x9f", uint8(1))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		var held []byte
		for at := 0; at < len(text); {
			n := min(1+int(size), len(text)-at)
			held = append(held, text[at:at+n]...)
			at += n
			whole := wholeRunes(held)
			if utf8.ValidString(text) && !utf8.Valid(held[:whole]) {
				t.Fatalf("%q was cut within a character", held)
			}
			held = held[whole:]
			if len(held) >= utf8.UTFMax {
				t.Fatalf("%d bytes are held", len(held))
			}
		}
		if utf8.ValidString(text) && len(held) > 0 {
			t.Fatalf("%q is held at the end", held)
		}
	})
}

type part struct {
	text  string
	final bool
}

func partsOf(text string) (parts []part) {
	_ = inParts(text, func(text string, final bool) error {
		parts = append(parts, part{text, final})
		return nil
	})
	return parts
}

func TestInParts(t *testing.T) {
	tests := []struct {
		name, text string
		parts      int
	}{
		{"no text", "", 1},
		{"a short text", "Hello", 1},
		{"a whole message", strings.Repeat("a", 10_000), 1},
		{"one character more", strings.Repeat("a", 10_001), 2},
		{"characters of many bytes", strings.Repeat("世", 10_000), 1},
		{"more of them", strings.Repeat("a世👋", 10_000), 3},
		{"a long text", strings.Repeat("word ", 9_000), 5},
		// A file in another encoding than UTF-8 has bytes that are no characters.
		{"bytes that are no characters", strings.Repeat("caf\xe9 ", 5_000), 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts := partsOf(tt.text)
			if len(parts) != tt.parts {
				t.Errorf("it has %d parts, want %d", len(parts), tt.parts)
			}
			var joined strings.Builder
			for i, p := range parts {
				joined.WriteString(p.text)
				if n := utf8.RuneCountInString(p.text); n > session.MaxTextRunes {
					t.Errorf("part %d has %d characters", i, n)
				}
				if p.final != (i == len(parts)-1) {
					t.Errorf("part %d of %d is final: %t", i, len(parts), p.final)
				}
			}
			// Bytes that are no characters may come as the character that stands for them.
			if strings.ToValidUTF8(joined.String(), "\ufffd") != strings.ToValidUTF8(tt.text, "\ufffd") {
				t.Error("the parts do not make up the text")
			}
		})
	}
}

func TestInPartsEndsAtAnError(t *testing.T) {
	lost, calls := errors.New("lost"), 0
	err := inParts(strings.Repeat("a", 25_000), func(string, bool) error {
		calls++
		return lost
	})
	if !errors.Is(err, lost) || calls != 1 {
		t.Errorf("after %d calls it returned %v, want the first one's error", calls, err)
	}
}
