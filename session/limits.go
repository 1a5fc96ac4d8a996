package session

import (
	"errors"
	"time"
)

var errVanished = errors.New("the client answers no ping: its network or its process is gone")

// sweep holds every session against the limits of time. It is one goroutine
// for all of them, so that an idle session costs no timer.
func (h *Hub) sweep() {
	ticker := time.NewTicker(h.sweepInterval())
	defer ticker.Stop()
	var all []*Session
	for {
		select {
		case now := <-ticker.C:
			all = h.all(all[:0])
			for _, s := range all {
				s.checkLimits(now)
			}
			clear(all)
		case <-h.stop:
			return
		}
	}
}

// sweepInterval is a second, or less where a limit is that short.
func (h *Hub) sweepInterval() time.Duration {
	interval := time.Second
	for _, limit := range []time.Duration{h.cfg.IdleTimeout, h.cfg.MaxDuration, h.cfg.PingInterval} {
		if limit > 0 {
			interval = min(interval, max(limit/4, time.Millisecond))
		}
	}
	return interval
}

func (s *Session) checkLimits(now time.Time) {
	defer s.guard()
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg, at := &s.hub.cfg, now.Sub(s.hub.began)
	if s.state != Ended && at-s.story.saved >= cfg.ResumeWindow {
		s.changed() // so that the record does not expire
	}
	switch {
	case s.state == Ended:
	case !s.expires.IsZero() && now.After(s.expires):
		s.end(Ending{ClosePolicy, "token_expired", true, Errorf(Unauthorized, "Connect again with a fresh token",
			"the token that the session was opened with has expired")})
	case cfg.MaxDuration > 0 && now.Sub(s.story.opened) >= cfg.MaxDuration:
		s.end(Ending{ClosePolicy, "max_duration", true, Errorf(LimitReached,
			"Open a new session, or have the operator raise MAX_SESSION_DURATION", "the session has lasted its %s", cfg.MaxDuration)})
	case cfg.IdleTimeout > 0 && s.silent() && at-s.story.heard >= cfg.IdleTimeout:
		s.end(Ending{ClosePolicy, "idle_timeout", true, Errorf(LimitReached,
			`Send {"type":"ping"} to keep a silent session, or have the operator raise IDLE_TIMEOUT`,
			"nothing was sent or spoken for %s", cfg.IdleTimeout)})
	case cfg.PingInterval > 0 && at-s.story.alive >= 2*cfg.PingInterval && at-s.story.heard >= 2*cfg.PingInterval:
		s.finish("connection_lost", CloseAbnormal, errVanished, true)
		s.conn.Abort()
	case cfg.PingInterval > 0 && at-s.story.pinged >= cfg.PingInterval:
		s.ping(at)
	}
}

func (s *Session) ping(now time.Duration) {
	s.story.pinged = now
	if err := s.conn.Ping(); err != nil {
		s.lost(err)
		return
	}
	s.flushIfBlocked()
}

// silent reports whether there is nothing to speak but what waits for the
// client: the rest of a partial text, or the end of a pause.
func (s *Session) silent() bool {
	return s.state.held() || len(s.utterances) == 0 || len(s.utterances) == 1 && s.open != nil && s.queue.front() == nil
}
