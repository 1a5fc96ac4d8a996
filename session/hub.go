package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
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
	MaxUtteranceRunes int           // characters that a session is yet to speak
	QueueFrames       int           // between worker and client, a session
	PacingLead        time.Duration // how far ahead of playback the client is kept
	PacingInterval    time.Duration // how often frames leave; less than one is one
	SlowClientTimeout time.Duration // how long a client may take nothing
	IdleTimeout       time.Duration // how long a session may be silent on both sides
	MaxDuration       time.Duration
	PingInterval      time.Duration // a client that answers no ping for two of these is gone
	ResumeWindow      time.Duration // how long a lost session can be resumed
}

// Hub holds the sessions of an edge, admits them, and drains them.
type Hub struct {
	cfg      Config
	voices   Voices
	log      *slog.Logger
	recorder telemetry.Recorder
	began    time.Time // what the times of frames and sessions count from
	wall     wall
	clocks   *clocks
	queues   *queuePool
	keeper   *keeper
	stop     chan struct{}
	done     sync.WaitGroup // the sweeper and the keeper

	mu       sync.Mutex
	places   int // taken by connections, each a session or on its way to one
	closing  int // connections whose place was given away before they are closed
	sessions map[string]*Session
	draining bool
	empty    chan struct{} // closed when draining and the last place is free
}

// NewHub returns a hub, which must be closed. Without a journal, nil, sessions
// can be resumed at this edge alone; without senders, each writes for itself.
func NewHub(cfg Config, voices Voices, journal Journal, newSender func() Sender, log *slog.Logger, recorder telemetry.Recorder) *Hub {
	h := &Hub{
		cfg: cfg, voices: voices, log: log, recorder: recorder,
		began:    time.Now(),
		clocks:   startClocks(runtime.GOMAXPROCS(0), newSender),
		queues:   newQueuePool(cfg.QueueFrames),
		keeper:   newKeeper(journal, cfg.ResumeWindow, log, recorder),
		sessions: map[string]*Session{},
		stop:     make(chan struct{}),
		empty:    make(chan struct{}),
	}
	h.done.Go(h.sweep)
	h.done.Go(func() { h.keeper.run(h.stop) })
	if journal != nil {
		h.done.Go(func() { h.follow(journal) })
	}
	return h
}

// Admit takes a place for one more connection, or says why there is none. The
// place is given back by Leave when the connection is closed.
func (h *Hub) Admit() *Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		h.recorder.Problem(string(Draining))
		return errDraining
	}
	if h.places >= h.cfg.MaxSessions {
		h.recorder.Problem(string(AtCapacity))
		return Errorf(AtCapacity, "Try again in a few seconds, start another edge, or raise MAX_CONNECTIONS",
			"this edge has all of its %d sessions", h.cfg.MaxSessions)
	}
	h.places++
	return nil
}

// Refused takes note of a refusal that is not the hub's own.
func (h *Hub) Refused(e *Error) { h.recorder.Problem(string(e.Code)) }

// Leave gives back a place taken with Admit.
func (h *Hub) Leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing > 0 {
		h.closing--
	} else {
		h.places--
	}
	if h.draining && h.places+h.closing == 0 {
		close(h.empty)
	}
}

// vacate gives the place of a connection away before it is closed.
func (h *Hub) vacate() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.places--
	h.closing++
}

// Opening is what a session is opened with.
type Opening struct {
	Params  Params
	Binary  bool        // audio in binary messages
	Resumed *Resumption // nil for a new session; its parameters override Params
	Remote  string      // the client's address, for the log
	Client  string      // who it has shown to be, or empty where nobody is asked
	Expires time.Time   // when that ends; zero: never
	// Allowance is what it may use up, or nil.
	Allowance Allowance
	// Traceparent is the W3C context that the client gave, or empty.
	Traceparent string
	Timings     bool // tell the client where the time of its frames went
}

// Open starts a session on a place taken with Admit, and greets the client.
// The caller reads the connection and calls Close when it is over.
func (h *Hub) Open(conn Conn, o Opening) *Session {
	s := &Session{
		id: uuid.NewString(), token: rand.Text(), epoch: 1, params: o.Params, hub: h, conn: conn, binary: o.Binary,
		client: o.Client, expires: o.Expires, allowance: o.Allowance,
		queue: queue{pool: h.queues, mark: nobodyRests},
		clock: h.clocks.assign(),
	}
	name, model := s.id, ""
	if r := o.Resumed; r != nil {
		s.id, s.token, s.epoch, s.params = r.record.ID, r.token, r.record.Epoch, r.record.Params
		o.Traceparent = cmp.Or(o.Traceparent, r.record.Traceparent)
		// Another name, so that the end of the old session at a worker is not the new one's.
		name, model = fmt.Sprintf("%s.r%d", s.id, s.epoch), r.record.Model
	}
	s.traceparent = o.Traceparent
	s.pace = newPace(s.params.Pacing, h.cfg.PacingLead, h.cfg.PacingInterval)
	s.room.L = &s.mu
	s.tracing = h.recorder.Session(telemetry.SessionStart{
		ID: s.id, Traceparent: o.Traceparent, Remote: o.Remote, Client: o.Client, Model: s.params.Model, Pacing: string(s.params.Pacing), Resumed: o.Resumed != nil})
	defer s.tracing.Opened()
	if s.tracing != nil {
		s.receipts = &receipts{}
	}
	if o.Timings {
		s.timings = &timings{}
	}
	s.ctx, s.cancel = context.WithCancel(s.tracing.Context(context.Background()))
	s.speaker = h.voices.Speaker(name, s.params, model)
	opened := time.Now()
	now := opened.Sub(h.began)
	s.story = story{opened: opened, connected: now, heard: now, alive: now, pinged: now, saved: now}

	s.mu.Lock()
	defer s.mu.Unlock()
	overtaken := h.register(s)
	h.recorder.SessionOpened()
	s.logger().InfoContext(s.ctx, "session opened", "remote", o.Remote, "client", o.Client, "model", s.params.Model, "language", s.params.Language,
		"pacing", s.params.Pacing, "binary", o.Binary, "resumed", o.Resumed != nil)
	s.greet(o.Resumed)
	if s.tracing != nil && s.state != Ended {
		s.ping(now) // how long it takes helps to read the client's receipts
	}
	s.changed()
	s.endIfDrained()
	if overtaken {
		s.end(Ending{Close: CloseDone, Reason: resumedElsewhere, Final: true})
	}
	return s
}

// register makes the session the one of its id, unless its client has resumed
// it over yet another connection meanwhile. The lock of s is held.
func (h *Hub) register(s *Session) (overtaken bool) {
	h.mu.Lock()
	prior := h.sessions[s.id]
	if overtaken = prior != nil && prior.epoch > s.epoch; !overtaken {
		h.sessions[s.id] = s
	}
	h.keeper.opened(s)
	s.draining = h.draining
	h.mu.Unlock()
	if prior != nil && !overtaken {
		prior.supersede(false)
	}
	return overtaken
}

// greet sends session_start, and to a client that resumes what it may have
// missed.
func (s *Session) greet(r *Resumption) {
	start := startMessage{
		Type: "session_start", SessionID: s.id, ResumeToken: s.token,
		SampleRate: SampleRate, FrameMillis: FrameMillis, Encoding: Encoding, Protocol: "json", Pacing: s.params.Pacing,
		Traceparent: telemetry.Traceparent(s.ctx),
	}
	if s.binary {
		start.Protocol = BinaryProtocol
	}
	if r == nil {
		s.send(start)
		return
	}
	s.hub.recorder.SessionResumed()
	ends := s.restore(r)
	s.logger().InfoContext(s.ctx, "session resumed", "after", r.after, "spoken_again", s.skip)
	start.resumedMessage = &resumedMessage{Resumed: true, After: r.after, Paused: s.state.held(), Accepted: s.accepted, Utterances: []utteranceState{}}
	for _, u := range s.utterances {
		start.Utterances = append(start.Utterances, utteranceState{u.number, u.script.Runes(), u.script.Final()})
	}
	s.send(start)
	for _, end := range ends {
		s.send(end)
	}
	s.startSpeaking()
}

// now is the time since the hub began.
func (h *Hub) now() time.Duration { return time.Since(h.began) }

func (h *Hub) remove(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] == s { // and not one that has resumed it
		delete(h.sessions, s.id)
	}
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

// BeginDrain refuses new sessions from now on.
func (h *Hub) BeginDrain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.draining && h.places+h.closing == 0 {
		close(h.empty)
	}
	h.draining = true
}

// Drain refuses new sessions and utterances at once, ends each session when
// what it has to say is said, and the rest when ctx is done. It returns when
// the last session is closed; how many were cut off is the result.
func (h *Hub) Drain(ctx context.Context) (cut int) {
	h.BeginDrain()
	for _, s := range h.all(nil) {
		s.drain()
	}
	select {
	case <-h.empty:
		return 0
	case <-ctx.Done():
	}
	for _, s := range h.all(nil) {
		if s.End(drained) {
			cut++
		}
	}
	<-h.empty
	return cut
}

// Close saves what is left of a hub that is drained, and stops it.
func (h *Hub) Close() {
	close(h.stop)
	h.done.Wait()
	h.clocks.close()
}

// all appends the sessions to those given.
func (h *Hub) all(all []*Session) []*Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all = slices.Grow(all, len(h.sessions))
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
