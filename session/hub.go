package session

import (
	"context"
	"crypto/rand"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/voxedge/voxedge/telemetry"
)

// Config holds the limits of a hub's sessions. A zero limit on messages,
// idleness or duration is no limit.
type Config struct {
	MaxSessions       int
	MaxMessages       int           // a session's client messages
	MaxUtterances     int           // waiting at once in a session
	MaxUtteranceRunes int           // characters of one utterance
	QueueFrames       int           // between worker and client, a session
	PacingLead        time.Duration // how far ahead of playback the client is kept
	SlowClientTimeout time.Duration // how long a client may take nothing
	IdleTimeout       time.Duration // how long a session may be silent on both sides
	MaxDuration       time.Duration
	PingInterval      time.Duration // a client that answers no ping for two of these is gone
}

// Hub holds the sessions of an edge, admits them, and drains them.
type Hub struct {
	cfg      Config
	voices   Voices
	log      *slog.Logger
	recorder telemetry.Recorder
	clocks   *clocks
	queues   *queuePool
	stop     chan struct{}
	done     sync.WaitGroup // the sweeper

	mu       sync.Mutex
	places   int // taken by connections, each a session or on its way to one
	sessions map[string]*Session
	draining bool
	empty    chan struct{} // closed when draining and the last place is free
}

// NewHub returns a hub, which must be closed.
func NewHub(cfg Config, voices Voices, log *slog.Logger, recorder telemetry.Recorder) *Hub {
	h := &Hub{
		cfg: cfg, voices: voices, log: log, recorder: recorder,
		clocks:   startClocks(runtime.GOMAXPROCS(0)),
		queues:   newQueuePool(cfg.QueueFrames),
		sessions: map[string]*Session{},
		stop:     make(chan struct{}),
		empty:    make(chan struct{}),
	}
	h.done.Go(h.sweep)
	return h
}

// Admit takes a place for one more connection, or says why there is none. The
// place is given back by Leave when the connection is closed.
func (h *Hub) Admit() *Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return errDraining
	}
	if h.places >= h.cfg.MaxSessions {
		return Errorf(AtCapacity, "Try again in a few seconds, start another edge, or raise MAX_CONNECTIONS",
			"this edge has all of its %d sessions", h.cfg.MaxSessions)
	}
	h.places++
	return nil
}

// Leave gives back a place taken with Admit.
func (h *Hub) Leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places--
	if h.draining && h.places == 0 {
		close(h.empty)
	}
}

// Open starts a session on a place taken with Admit, and greets the client.
// The caller reads the connection and calls Close when it is over.
func (h *Hub) Open(conn Conn, p Params, binary bool, log ...any) *Session {
	id := uuid.NewString()
	s := &Session{
		id: id, token: rand.Text(), params: p, hub: h, conn: conn, binary: binary,
		log:   h.log.With("session_id", id).With(log...),
		queue: queue{pool: h.queues},
		pace:  newPace(p.Pacing, h.cfg.PacingLead),
		clock: h.clocks.assign(),
	}
	s.room.L = &s.mu
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.speaker = h.voices.Speaker(id, p)
	now := time.Now()
	s.story.opened, s.story.heard, s.story.alive, s.story.pinged = now, now, now, now

	h.mu.Lock()
	h.sessions[id] = s
	s.draining = h.draining
	h.mu.Unlock()

	h.recorder.SessionOpened()
	s.log.Info("session opened", "model", p.Model, "language", p.Language, "pacing", p.Pacing, "binary", binary)
	s.mu.Lock()
	defer s.mu.Unlock()
	protocol := "json"
	if binary {
		protocol = BinaryProtocol
	}
	s.send(startMessage{"session_start", id, s.token, SampleRate, FrameMillis, Encoding, protocol, p.Pacing})
	s.endIfDrained()
	return s
}

func (h *Hub) remove(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, s.id)
}

// Sessions returns how many places are taken and how many there are.
func (h *Hub) Sessions() (taken, limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.places, h.cfg.MaxSessions
}

// Draining reports whether the hub takes nothing new.
func (h *Hub) Draining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}

// Drain refuses new sessions and utterances at once, ends each session when
// what it has to say is said, and the rest when ctx is done. It returns when
// the last session is closed; how many were cut off is the result.
func (h *Hub) Drain(ctx context.Context) (cut int) {
	h.mu.Lock()
	h.draining = true
	if h.places == 0 {
		close(h.empty)
	}
	h.mu.Unlock()
	for _, s := range h.all() {
		s.drain()
	}
	select {
	case <-h.empty:
		return 0
	case <-ctx.Done():
	}
	rest := h.all()
	for _, s := range rest {
		s.End(drained)
	}
	<-h.empty
	return len(rest)
}

// Close stops the clocks of a hub that is drained.
func (h *Hub) Close() {
	close(h.stop)
	h.done.Wait()
	h.clocks.close()
}

func (h *Hub) all() []*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		all = append(all, s)
	}
	return all
}

func (s *Session) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	s.endIfDrained()
}

// endIfDrained ends a draining session that has nothing to say. The lock is held.
func (s *Session) endIfDrained() {
	if s.draining && len(s.utterances) == 0 {
		s.end(drained)
	}
}
