package worker

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

func TestSentencesComeAsSoonAsTheNextBegins(t *testing.T) {
	var s sentences
	steps := []struct {
		add  string
		want []string
	}{
		{"Hello the", nil},
		{"re. ", []string{"Hello there. "}},
		{"General Kenobi!", nil},
		{" You", []string{"General Kenobi! "}},
		{" are a bold one.", nil},
		{" So? Yes. No", []string{"You are a bold one. ", "So? ", "Yes. "}},
		{"", nil},
	}
	for _, step := range steps {
		if got := s.add(step.add); !slices.Equal(got, step.want) {
			t.Fatalf("after %q: got %q, want %q", step.add, got, step.want)
		}
	}
	if rest := s.rest(); rest != "No" {
		t.Errorf("the rest is %q, want %q", rest, "No")
	}
	if rest := s.rest(); rest != "" {
		t.Errorf("the rest came twice: %q", rest)
	}
}

// Whoever sends whole sentences does not wait for the next to hear the first.
func TestSentencesThatAreWholeWaitForNothing(t *testing.T) {
	for _, text := range []string{"Hello. ", "Hello!\n", "He said: “No.” ", "(Really?) ", "你好。", "「やめて！」", "नमस्ते। "} {
		var s sentences
		if got := s.add(text); !slices.Equal(got, []string{text}) {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range []string{"Hello", "Hello ", "3.", "Hello, ", "e.g", "\"", " "} {
		var s sentences
		if got := s.add(text); got != nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// A language model writes the space with the word that follows it.
func TestSentencesOfALanguageModel(t *testing.T) {
	var s sentences
	for _, token := range []string{"Apples", ",", " pears", " etc", ".", " and", " so", " on"} {
		if got := s.add(token); got != nil {
			t.Errorf("%q was cut off", got)
		}
	}
}

// A point is not the end while it may yet stand within a number, and a sentence
// cut there is spoken wrongly.
func TestSentencesAreNotCutWithin(t *testing.T) {
	for _, text := range []string{"It costs 3.50 today", "See example.com for more", "version 1.2.3"} {
		var s sentences
		for _, r := range text {
			if got := s.add(string(r)); got != nil {
				t.Errorf("%q: %q was cut off", text, got)
			}
		}
		if rest := s.rest(); rest != text {
			t.Errorf("the rest is %q, want %q", rest, text)
		}
	}
}

func TestSentencesOfOtherScripts(t *testing.T) {
	var s sentences
	if got, want := s.add("你好。世界。再"), []string{"你好。", "世界。"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whoever never ends a sentence is heard all the same.
func TestLongTextIsCutAtAWordsEnd(t *testing.T) {
	tests := map[string]string{
		"words":        strings.Repeat("one two three ", 60),
		"apostrophes":  strings.Repeat("we can't and they wouldn't ", 40),
		"numbers":      strings.Repeat("about 3.5 of 1,000 ", 50),
		"accents":      strings.Repeat("cafe\u0301 re\u0301sume\u0301 ", 60),
		"one by one":   strings.Repeat("x ", 400),
		"another text": strings.Repeat("日本語テキスト", 60),
		"wide spaces":  strings.Repeat("日本語　テキ\u00a0スト\u202f", 60),
	}
	for name, text := range tests {
		// The length of what comes first moves every cut to every place of the text.
		for shift := range 30 {
			text := strings.Repeat("y", shift) + " " + text
			ends := wordEnds(text)
			var s sentences
			at, pieces := 0, 0
			for _, r := range text {
				for _, piece := range s.add(string(r)) {
					at += len(piece)
					pieces++
					if !ends[at] {
						t.Fatalf("%s: cut within a word: %q | %q", name, text[at-min(at, 12):at], text[at:min(at+12, len(text))])
					}
				}
				if len(s.held) > maxHeld+utf8.UTFMax {
					t.Fatalf("%s: %d bytes are held back, want at most %d", name, len(s.held), maxHeld)
				}
			}
			if pieces == 0 {
				t.Fatalf("%s: nothing was cut off of %d bytes", name, len(text))
			}
		}
	}
}

// wordEnds returns the places where words of the whole text end.
func wordEnds(text string) map[int]bool {
	ends := map[int]bool{}
	at, state := 0, -1
	for text != "" {
		var word string
		word, text, state = uniseg.FirstWordInString(text, state)
		at += len(word)
		ends[at] = true
	}
	return ends
}

// A word that never ends, letter by letter, costs the more the longer it is
// held: each letter is another look at all of it.
func TestAnEndlessWordIsNotHeldForEver(t *testing.T) {
	word := strings.Repeat("a", 10*maxHeld)
	var s sentences
	var spoken strings.Builder
	for _, r := range word {
		for _, piece := range s.add(string(r)) {
			spoken.WriteString(piece)
		}
	}
	if spoken.Len() == 0 {
		t.Errorf("all of %d letters are held", len(word))
	}
	if spoken.WriteString(s.rest()); spoken.String() != word {
		t.Errorf("%d letters are spoken, want %d", spoken.Len(), len(word))
	}
}

// However a text comes in, all of it is spoken, once and in order.
func FuzzSentences(f *testing.F) {
	f.Add("Hello there. General Kenobi! You are a bold one.", uint8(3))
	f.Add(strings.Repeat("no end in sight ", 50), uint8(1))
	f.Add("再见。\r\n\u2029\u00ad. \xff\xfe 👩‍👩‍👧", uint8(2))
	f.Add("See "+strings.Repeat("x", 3*maxHeld)+". Then go", uint8(255))
	f.Add(strings.Repeat("長い文", 60)+"\u3000"+strings.Repeat("と", 80)+"。終わり。", uint8(60))
	f.Add("", uint8(0))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		if len(text) > 4*maxHeld {
			t.Skip("each of many chunks has all that is held looked at")
		}
		chunks := inChunks(text, int(size)+1)
		parts := cutAll(t, chunks)
		if spoken := strings.Join(parts, ""); spoken != text {
			t.Errorf("spoken is %q, want %q", spoken, text)
		}
		runes := 0
		for i, part := range parts {
			if some := i%(len(parts)/4+1) == 0; some && utf8.ValidString(text) {
				if rest := cutAll(t, after(chunks, runes)); !slices.Equal(rest, parts[i:]) {
					t.Fatalf("behind %d characters, %q is cut, in place of %q", runes, rest, parts[i:])
				}
			}
			runes += utf8.RuneCountInString(part)
		}
		if want := utf8.RuneCountInString(text); utf8.ValidString(text) && runes != want {
			t.Errorf("%d characters are counted, want %d", runes, want)
		}
	})
}

// inChunks cuts text into chunks of so many characters.
func inChunks(text string, size int) (chunks []string) {
	if !utf8.ValidString(text) {
		return []string{text}
	}
	for runes := range slices.Chunk([]rune(text), size) {
		chunks = append(chunks, string(runes))
	}
	return chunks
}

// after is what an edge gives of the chunks behind the first so many characters.
func after(chunks []string, runes int) (rest []string) {
	for _, chunk := range chunks {
		all := []rune(chunk)
		n := min(runes, len(all))
		if runes -= n; n < len(all) {
			rest = append(rest, string(all[n:]))
		}
	}
	return rest
}

func cutAll(t *testing.T, chunks []string) (parts []string) {
	t.Helper()
	var s sentences
	for _, chunk := range chunks {
		parts = append(parts, s.add(chunk)...)
	}
	if rest := s.rest(); rest != "" {
		parts = append(parts, rest)
	}
	if slices.Contains(parts, "") {
		t.Fatal("an empty sentence came")
	}
	return parts
}
