package worker

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

const (
	// maxHeld is how many bytes of text without a sentence end are held back
	// before they are spoken all the same, at a word's end.
	maxHeld = 400
	// maxWord is how many bytes without even a word's end are.
	maxWord = 4 * maxHeld
)

// sentences cuts text that comes in pieces where its sentences end, so that
// the first can be spoken while the rest is still being written.
type sentences struct {
	held string
}

// add takes a piece of text and returns the sentences that are complete. A
// sentence's end is known once something follows it, or where the piece ends in
// a way that leaves no doubt.
func (s *sentences) add(text string) (complete []string) {
	s.held += text
	for {
		sentence, rest, _ := uniseg.FirstSentenceInString(s.held, -1)
		if rest == "" {
			break
		}
		complete = append(complete, sentence)
		s.held = rest
	}
	if endsSentence(s.held) {
		complete = append(complete, s.held)
		s.held = ""
	}
	for len(s.held) > maxHeld { // so that what is held never hangs on how the text came
		cut := longCut(s.held)
		if cut == 0 {
			break
		}
		complete = append(complete, s.held[:cut])
		s.held = s.held[cut:]
	}
	return complete
}

// longCut returns where text without a sentence's end is cut, or 0: behind its last space,
// at a word's end in a script without spaces, or anywhere in what is too long for a word.
func longCut(text string) int {
	if space := strings.LastIndexFunc(text, unicode.IsSpace); space >= 0 {
		_, size := utf8.DecodeRuneInString(text[space:])
		return space + size
	}
	if cut := wordEnd(text); cut > 0 || len(text) <= maxWord {
		return cut
	}
	return len(text)
}

// endsSentence reports whether the text ends in a full stop and a space, or in
// one of those scripts that have no spaces. A stop alone may be in a number.
func endsSentence(text string) bool {
	words := strings.TrimRightFunc(text, unicode.IsSpace)
	last, _ := utf8.DecodeLastRuneInString(strings.TrimRightFunc(words, closing))
	return strings.ContainsRune("。！？", last) || len(words) < len(text) && unicode.Is(unicode.STerm, last)
}

// closing reports whether r may stand between a full stop and what follows it.
func closing(r rune) bool {
	return r == '"' || r == '\'' || unicode.In(r, unicode.Pe, unicode.Pf)
}

// rest returns what is left when no more text follows.
func (s *sentences) rest() string {
	rest := s.held
	s.held = ""
	return rest
}

// wordEnd returns the last place in s where surely a word ends, or 0: one with
// two more behind it, for an apostrophe may yet turn out to be in the middle of
// a word.
func wordEnd(s string) int {
	var ends [3]int // of the last three words, newest first
	at := 0
	for state := -1; s != ""; {
		var word string
		word, s, state = uniseg.FirstWordInString(s, state)
		at += len(word)
		ends = [3]int{at, ends[0], ends[1]}
	}
	return ends[2]
}
