package worker

import "github.com/rivo/uniseg"

// maxHeld is how many bytes of text without a sentence end are held back
// before they are spoken all the same, at a word's end.
const maxHeld = 400

// sentences cuts text that comes in pieces where its sentences end, so that
// the first can be spoken while the rest is still being written.
type sentences struct {
	held string
}

// add takes a piece of text and returns the sentences that are complete: a
// sentence's end is known only once something follows it.
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
	if len(s.held) > maxHeld {
		if cut := lastWordEnd(s.held); cut > 0 {
			complete = append(complete, s.held[:cut])
			s.held = s.held[cut:]
		}
	}
	return complete
}

// rest returns what is left when no more text follows.
func (s *sentences) rest() string {
	rest := s.held
	s.held = ""
	return rest
}

// lastWordEnd returns the byte offset behind the last word that is surely
// complete, or 0.
func lastWordEnd(s string) (cut int) {
	at := 0
	for state := -1; s != ""; {
		var word string
		word, s, state = uniseg.FirstWordInString(s, state)
		if s == "" {
			break
		}
		at += len(word)
		cut = at
	}
	return cut
}
