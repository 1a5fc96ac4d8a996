package session

import (
	"context"
	"errors"
	"testing"
)

func TestScriptGivesEveryReaderEveryChunk(t *testing.T) {
	s := NewScript()
	done := make(chan []string)
	for range 3 {
		go func() {
			var got []string
			for i := 0; ; i++ {
				text, last, err := s.Chunk(context.Background(), i)
				if err != nil {
					got = append(got, err.Error())
				}
				got = append(got, text)
				if last {
					done <- got
					return
				}
			}
		}()
	}
	s.Add("one ", false)
	s.Add("two ", false)
	s.Add("", true)
	for range 3 {
		got := <-done
		if len(got) < 2 || len(got) > 3 || got[0] != "one " || got[1] != "two " || len(got) == 3 && got[2] != "" {
			t.Errorf("a reader got %q", got)
		}
	}
	if s.Runes() != 8 || !s.Final() {
		t.Errorf("%d runes, final %v", s.Runes(), s.Final())
	}
}

func TestScriptChunkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := NewScript().Chunk(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
