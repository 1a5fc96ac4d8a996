package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// postbag is a Sender that notes for how many connections it sent at once.
type postbag struct {
	sizes  *[]int
	closed *int
}

func (p postbag) Send(conns []Conn) {
	*p.sizes = append(*p.sizes, len(conns))
	for _, c := range conns {
		c := c.(*bagged)
		c.sent += c.gathered
		c.gathered = 0
	}
}

func (p postbag) Close() { *p.closed++ }

// bagged is a Conn that counts which way its frames leave.
type bagged struct {
	wire
	gathered, sent, uncorked int
	panics, breaks           bool // at its twelfth frame
}

func (b *bagged) WriteFrame(p []byte) error {
	if !b.corked {
		return errors.New("a frame outside Cork and Uncork")
	}
	b.gathered++
	if b.panics && b.sent+b.uncorked+b.gathered == 12 {
		panic("as the test wants it")
	}
	return b.wire.WriteFrame(p)
}

func (b *bagged) Uncork() error {
	b.uncorked += b.gathered
	b.gathered = 0
	if b.breaks && b.sent+b.uncorked >= 12 {
		return errors.New("as the test wants it")
	}
	return b.wire.Uncork()
}

// After the lead, which each has at once, all frames of a hundred sessions leave
// through the clock's sender, as many together as may be. What goes wrong with one
// of them is its own.
func TestClockSendsForManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, lead, frames = 100, 10, 16
		cfg := roomy
		cfg.MaxSessions, cfg.PacingLead = sessions, lead*FrameDuration
		var sizes []int
		closed, clocks := 0, 0
		hub := NewHub(cfg, sixteenFrames{}, nil, func() Sender {
			clocks++
			return postbag{&sizes, &closed}
		}, slog.New(slog.DiscardHandler), telemetry.Discard{})
		hub.clocks.all = hub.clocks.all[:1] // all sessions with one
		conns := make([]*bagged, sessions)
		open := make([]*Session, sessions)
		for i := range conns {
			conns[i] = &bagged{panics: i == 5, breaks: i == 7}
			open[i] = hub.Open(conns[i], Opening{Params: Params{Pacing: Realtime}})
			open[i].Receive([]byte(`{"type":"text","text":"sixteen"}`))
		}
		synctest.Wait()
		time.Sleep(time.Second) // of synctest's clock: all are spoken
		synctest.Wait()
		atOnce, together := 0, 0
		for i, c := range conns {
			open[i].mu.Lock()
			last := c.writes[len(c.writes)-1][0]
			got := fmt.Sprintf("%d frames, then %s", c.uncorked+c.sent, last)
			open[i].mu.Unlock()
			want := "16 frames, then utterance_end"
			switch {
			case c.panics:
				want = "12 frames, then session_end" // the twelfth was never sent: it is dropped with the session
			case c.breaks:
				want = "12 frames, then audio"
			}
			if got != want {
				t.Errorf("session %d: %s, want %s", i, got, want)
			}
			atOnce, together = atOnce+c.uncorked, together+c.sent
			open[i].Close()
		}
		// A session that is busy as its turn comes, being saved perhaps, ends a batch early,
		// and what is alone in one leaves at once.
		wantTogether := sessions + sessions - 1 + 4*(sessions-2)
		if lone := wantTogether - together; lone < 0 || lone > sessions/20 || atOnce != lead*sessions+1+lone {
			t.Errorf("%d frames left at once and %d together, want %d and %d", atOnce, together, lead*sessions+1, wantTogether)
		}
		if slices.Max(sizes) != SendAtOnce || len(sizes) > together/10 {
			t.Errorf("frames were sent in batches of %d, want some of %d", sizes, SendAtOnce)
		}
		hub.clocks.all = hub.clocks.all[:clocks] // to be closed
		hub.Close()
		if closed != clocks {
			t.Errorf("%d senders of %d are closed", closed, clocks)
		}
	})
}

// asItSpeaks is a voice of real-time pace: it makes eight frames, 20 ms apart, in the
// middle of a slot of the clock.
type asItSpeaks struct{ fiveFrames }

func (asItSpeaks) Speaker(string, Params, string) Speaker { return asItSpeaks{} }

func (asItSpeaks) Speak(_ context.Context, _ *Script, _ Place, _ *uint64, emit func(Frame) error) error {
	time.Sleep(clockGrain / 2)
	for range 8 {
		if err := emit(Frame{PCM: make([]byte, FrameBytes), Received: time.Now()}); err != nil {
			return err
		}
		time.Sleep(FrameDuration)
	}
	return nil
}

// Frames that a worker makes no sooner than they are due leave as they come. Of many
// that come within a slot only the first does, and the others leave at its end, with
// few system calls; but first frames never wait.
func TestLateFramesOfManyLeaveTogether(t *testing.T) {
	for _, test := range []struct {
		sessions         int
		sender           bool
		atOnce, together int
		wait             time.Duration
	}{
		{1, true, 8, 0, 0},
		{100, false, 800, 0, 0},
		{100, true, 100 + 7, 7 * 99, clockGrain / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := roomy
			cfg.MaxSessions = test.sessions
			var sizes []int
			var newSender func() Sender
			if closed := 0; test.sender {
				newSender = func() Sender { return postbag{&sizes, &closed} }
			}
			heard := &ear{}
			hub := NewHub(cfg, asItSpeaks{}, nil, newSender, slog.New(slog.DiscardHandler), heard)
			defer hub.Close()
			all := hub.clocks.all
			hub.clocks.all = all[:1] // all sessions with one
			defer func() { hub.clocks.all = all }()
			conns := make([]*bagged, test.sessions)
			for i := range conns {
				conns[i] = &bagged{}
				s := hub.Open(conns[i], Opening{Params: Params{Pacing: Realtime}})
				defer s.Close()
				s.Receive([]byte(`{"type":"text","text":"as it speaks"}`))
			}
			time.Sleep(time.Second) // of synctest's clock: all are spoken
			synctest.Wait()
			atOnce, together := 0, 0
			for _, c := range conns {
				atOnce, together = atOnce+c.uncorked, together+c.sent
			}
			if atOnce != test.atOnce || together != test.together || len(sizes) > 2*7 {
				t.Errorf("%d sessions: %d frames left at once and %d together, in %v, want %d and %d", test.sessions, atOnce, together, sizes, test.atOnce, test.together)
			}
			if heard.wait != test.wait {
				t.Errorf("%d sessions: a frame waited for %s, want %s", test.sessions, heard.wait, test.wait)
			}
		})
	}
}
