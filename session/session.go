package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/voxedge/voxedge/telemetry"
)

// Session is one client connection. Receive, Pinged and Lost belong to the goroutine
// that reads the connection, and closes it; End may be called by any.
type Session struct {
	id          string
	token       string
	params      Params
	hub         *Hub
	conn        Conn
	speaker     Speaker
	client      string    // who it is
	expires     time.Time // when that ends; zero: never
	traceparent string    // W3C context that the client gave, or empty
	ctx         context.Context
	cancel      context.CancelFunc
	work        sync.WaitGroup // the speaking and the flushing goroutine

	mu         sync.Mutex
	state      State
	binary     bool // set when it opens, like what is above
	speaking   bool // the speaking goroutine runs
	flushing   bool // the flushing goroutine runs
	noSkip     bool // the frames of skip will not be spoken any more
	draining   bool
	unsaved    bool // the journal is behind
	scheduled  bool // on the clock
	queue      queue
	pace       pace
	room       sync.Cond     // the queue has drained, or an utterance was ended
	utterances []*utterance  // accepted and not over, in order
	unspoken   int           // how many of them, the last ones, no worker was given yet
	open       *utterance    // the one that partial text goes to
	accepted   uint64        // utterances
	sequence   uint64        // of the last frame written
	gathered   int           // frames that the connection was handed and has not released
	position   uint64        // sequence that the last frame spoken has or will have
	skip       uint64        // frames yet to be spoken that the client has; the speaking goroutine's
	released   time.Time     // the last pause ended, or the client took what had waited for it
	turn       time.Duration // the last utterance was over, since the hub began

	epoch int64               // rises with every resume
	past  []RecordedUtterance // over, but perhaps not all received

	clock     *clock
	clockNext *Session      // the clock's, while scheduled
	due       time.Duration // since the clock's start

	allowance Allowance // nil: no limit
	story     story
	tracing   *telemetry.SessionTrace // nil when it is not traced
	receipts  *receipts               // nil when it is not traced
	timings   *timings                // nil unless the client asked for them
}

// ID is the session's UUID.
func (s *Session) ID() string { return s.id }

// logger is made when there is something to say: most of its time a session has not.
func (s *Session) logger() *slog.Logger { return s.hub.log.With("session_id", s.id) }

// Receive acts on one text message of the client. A message that is not right
// is answered with an error and changes nothing. data is not kept.
func (s *Session) Receive(data []byte) {
	message, problem := ParseMessage(data)
	if text, ok := message.(Text); ok && text.Runes > 0 && s.allowance != nil {
		problem = s.allowance.Text(s.ctx, text.Runes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Ended {
		return
	}
	s.story.heard = s.hub.now()
	s.story.messages++
	if limit := s.hub.cfg.MaxMessages; limit > 0 && s.story.messages > limit {
		s.end(Ending{ClosePolicy, "message_limit", true, Errorf(LimitReached,
			"Open a new session, or have the operator raise MAX_MESSAGES_PER_SESSION",
			"this session has sent its %d messages", limit)})
		return
	}
	if problem == nil {
		switch m := message.(type) {
		case Text:
			problem = s.text(m)
		case Control:
			s.control(m.Command)
		case Ping:
			s.send(pongMessage{"pong", m.ID, time.Now().UnixMilli()})
		case Receipt:
			problem = s.receipt(m)
		}
	}
	if problem != nil {
		s.report(problem)
	}
}

// text accepts text for the open utterance or a new one. The lock is held.
func (s *Session) text(m Text) *Error {
	u := s.open
	runes := m.Runes
	for _, waiting := range s.utterances {
		runes += waiting.script.Runes()
	}
	switch {
	case u == nil && m.Text == "":
		return errEmptyText
	case u == nil && s.draining:
		return errDraining
	case u == nil && len(s.utterances) >= s.hub.cfg.MaxUtterances:
		return Errorf(LimitReached, "Wait for an utterance_end, or send STOP, and send it again",
			"%d utterances are waiting to be spoken", len(s.utterances))
	case runes > s.hub.cfg.MaxUtteranceRunes:
		return Errorf(LimitReached, "Wait for an utterance_end, or send STOP, and send it again",
			"the text that waits would pass %d characters", s.hub.cfg.MaxUtteranceRunes)
	}
	if _, ok := s.transition(eventText); !ok {
		return nil
	}
	if u == nil {
		s.accepted++
		u = s.newUtterance(s.accepted, m.Traceparent, "")
		s.open = u
		s.utterances = append(s.utterances, u)
		s.unspoken++
	}
	u.script.Add(m.Text, m.Final)
	if m.Final {
		s.open = nil
	}
	s.story.characters += m.Runes
	s.changed()
	s.startSpeaking()
	return nil
}

func (s *Session) startSpeaking() {
	if !s.speaking && s.unspoken > 0 {
		s.speaking = true
		s.work.Go(s.speak)
	}
}

// control is barge-in: the edge acts before the worker is told. The lock is held.
func (s *Session) control(c Command) {
	began := time.Now()
	if len(s.utterances) > 0 {
		s.utterances[0].trace.Event(string(c))
	}
	switch c {
	case Pause:
		s.transition(eventPause)
	case Resume:
		s.transition(eventResume)
		s.released = began
		s.deliver(began)
	case Stop:
		s.transition(eventStop)
		s.silence(Stopped, nil)
		s.pace.restart()
	}
	if c != Resume {
		s.hub.recorder.BargeIn(string(c), time.Since(began))
	}
	s.changed()
	s.speaker.Control(c)
}

// silence ends every utterance with nothing more of it written, and says why if
// they failed. The lock is held.
func (s *Session) silence(why Reason, problem *Error) {
	s.note()
	dropped := uint64(s.queue.clear())
	s.position, s.noSkip = s.sequence, true
	if why == Stopped {
		s.story.dropped += dropped
	}
	stopped := s.utterances
	s.utterances, s.unspoken, s.open = nil, 0, nil
	for _, u := range stopped {
		if u.last = s.sequence; u.first == 0 { // no worker was given it
			u.first = s.sequence + 1
		}
		s.endUtterance(u, why)
	}
	s.room.Broadcast()
	for _, u := range stopped {
		s.tellEnd(u, why, problem)
	}
}

// endUtterance takes down that u is over, before anything is said of it: if the
// connection turns out to be lost then, the record has it. tellEnd follows. The
// lock is held.
func (s *Session) endUtterance(u *utterance, why Reason) {
	u.over = true
	u.cancel()
	if s.open == u {
		s.open = nil
	}
	s.remember(u, why)
	s.changed()
}

// tellEnd tells the client that u is over, and why if it failed. The lock is held.
func (s *Session) tellEnd(u *utterance, why Reason, problem *Error) {
	if problem != nil {
		s.report(problem)
	}
	s.observed(u, why, problem)
	if s.state != Ended {
		s.send(utteranceEndMessage{"utterance_end", u.number, u.last, string(why), u.trace.TraceID()})
	}
}

// transition moves the state on, and reports whether it could. The lock is held.
func (s *Session) transition(e event) (State, bool) {
	next, ok := s.state.on(e)
	s.state = next
	return next, ok
}

// report sends an error to the client. The lock is held.
func (s *Session) report(problem *Error) {
	s.story.errors++
	s.hub.recorder.Problem(string(problem.Code))
	s.logger().DebugContext(s.ctx, "error sent to the client", "code", problem.Code, "cause", problem.Error(), "resolution", problem.Resolution, "runbook", problem.Code.Runbook())
	s.send(errorMessage{"error", problem.Code, problem.Message()})
}

// send writes a message other than audio. The lock is held.
func (s *Session) send(message any) {
	if err := s.conn.WriteText(encode(message)); err != nil {
		s.lost(err)
		return
	}
	s.flushIfBlocked()
}

// Pinged takes note of a sign of life that is not a message, and was answered.
func (s *Session) Pinged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.story.alive = s.hub.now()
	s.flushIfBlocked()
}

// Ponged takes note of the answer to a ping.
func (s *Session) Ponged() {
	s.mu.Lock()
	s.story.alive = s.hub.now()
	if s.receipts != nil {
		s.receipts.clock.ponged(s.story.alive - s.story.pinged)
	}
	s.mu.Unlock()
}

// Lost ends the session because its connection is gone.
func (s *Session) Lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost(err)
}

func (s *Session) lost(err error) {
	if s.state == Ended {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.end(Ending{ClosePolicy, "slow_client", false, Errorf(SlowClient,
			"Read the socket without pause, and look for a stalled network or a blocked event loop",
			"the client took nothing, or too little to make room, for %s while frames waited", s.hub.cfg.SlowClientTimeout)})
		return
	}
	s.finish("connection_lost", CloseAbnormal, err, true)
	s.conn.Abort()
}

// End says so to the client and ends the session. It reports false, and does
// nothing, when the session has ended already.
func (s *Session) End(e Ending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.state != Ended
	s.end(e)
	return open
}

func (s *Session) end(e Ending) {
	if s.state == Ended {
		return
	}
	// The state first, so that a write that fails on the way out does not end
	// the session a second time.
	var cause error
	if e.Err != nil {
		cause = e.Err
	}
	s.finish(e.Reason, e.Close, cause, !e.Final)
	if e.Err != nil {
		s.story.errors++
		s.hub.recorder.Problem(string(e.Err.Code))
		_ = s.conn.WriteText(encode(errorMessage{"error", e.Err.Code, e.Err.Message()}))
	}
	s.farewell(e.Close, e.Reason)
}

// farewell says the last that is said on the connection. The lock is held.
func (s *Session) farewell(closeCode int, reason string) {
	_ = s.conn.WriteText(encode(endMessage{"session_end", s.id, reason}))
	s.conn.Close(closeCode, reason)
	s.flushIfBlocked()
}

// finish ends the session on the edge's side, and leaves its record if the
// client may come back. The lock is held.
func (s *Session) finish(reason string, closeCode int, cause error, leave bool) {
	s.story.ended = &ended{time.Since(s.story.opened), s.hub.now() - s.story.connected, reason, closeCode, cause}
	_, s.gathered = s.conn.Uncork(), 0 // before the memory of its frames goes
	if leave {
		s.hub.keeper.leave(s.record())
	} else if reason != resumedElsewhere {
		s.hub.keeper.forget(s.id, s.epoch)
	}
	s.transition(eventEnd)
	s.silence(CutOff, nil)
	s.cancel()
	if s.receipts != nil {
		s.receipts.plays.Close()
	}
	s.hub.recorder.SessionEnded(reason)
}

// Close waits for all that the session started, at the edge and at the
// workers, and writes its story. It is called once, by the reader, after the
// session has ended.
func (s *Session) Close() {
	s.Lost(errors.New("the reader left"))
	s.work.Wait()
	s.speaker.Close()
	s.hub.remove(s)
	worker, model := s.speaker.Worker()
	s.story.tell(s.ctx, s.logger(), worker, model, s.sequence)
}

// guard, deferred, keeps a panic in the session it happened in.
func (s *Session) guard() {
	if p := recover(); p != nil {
		s.Panicked(p)
	}
}

// Panicked ends the session after a panic in a goroutine that served it.
func (s *Session) Panicked(p any) {
	s.logger().ErrorContext(s.ctx, "panic in a session", "cause", p, "stack", string(debug.Stack()),
		"resolution", "this is a fault of voxedge: report it with this stack; the other sessions go on")
	s.End(Ending{Close: CloseInternal, Reason: "internal_error", Final: true, Err: &Error{Code: InternalError,
		Cause:      "the edge failed in this session",
		Resolution: "Connect again; if it happens again, give the session id to the operator"}})
}
