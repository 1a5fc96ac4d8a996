package session

import (
	"context"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// Script is the text of one utterance as it comes in from the client. It keeps
// all of it, so that another worker can be given the same text again. One
// goroutine adds; any number read.
type Script struct {
	mu     sync.Mutex
	chunks []string
	runes  int
	final  bool
	added  time.Time     // when text last was
	more   chan struct{} // closed and replaced at every change
}

// NewScript returns an empty script.
func NewScript() *Script { return &Script{more: make(chan struct{})} }

// Add appends text, which may be empty when final ends the script.
func (s *Script) Add(text string, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != "" {
		s.chunks = append(s.chunks, text)
		s.runes += utf8.RuneCountInString(text)
		s.added = time.Now()
	}
	s.final = s.final || final
	close(s.more)
	s.more = make(chan struct{})
}

// Runes returns how many characters the script has so far.
func (s *Script) Runes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runes
}

// Added returns when text was last added.
func (s *Script) Added() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.added
}

// all returns the pieces so far, and whether they are complete.
func (s *Script) all() (chunks []string, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.chunks), s.final
}

// Final reports whether the script is complete.
func (s *Script) Final() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final
}

// After returns what of text comes behind its first n characters, and how many of n are
// missing where it has fewer.
func After(text string, n int) (rest string, missing int) {
	for i := range text {
		if n == 0 {
			return text[i:], 0
		}
		n--
	}
	return "", n
}

// Chunk waits for the i-th piece of text, counted from 0. last says that none
// follows; a script that was ended by an empty text may end with an empty last
// piece. The only error is the context's.
func (s *Script) Chunk(ctx context.Context, i int) (text string, last bool, err error) {
	for {
		s.mu.Lock()
		more := s.more
		switch {
		case i < len(s.chunks):
			text, last = s.chunks[i], s.final && i == len(s.chunks)-1
			s.mu.Unlock()
			return text, last, nil
		case s.final:
			s.mu.Unlock()
			return "", true, nil
		}
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return "", false, ctx.Err()
		}
	}
}
