package session

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// story is what there is to tell of a session when it has ended, in one log
// line. Every idle session has one, so it is small. The session's lock guards it.
type story struct {
	opened     time.Time // the session, over whatever connection
	messages   int
	before     int    // messages that came over other connections; what follows is this one's
	after      uint64 // frames that were written before
	characters int
	completed  int32
	stopped    int32
	failed     int32
	cutOff     int32
	errors     int32
	underruns  int32
	dropped    uint64 // frames queued and then stopped
	// Since the hub began: connected, and the last message, pong, ping and save in the journal.
	connected, heard, alive, pinged, saved time.Duration

	first    time.Duration
	lateness time.Duration // the worst
	ended    *ended        // nil until it is
}

// ended is how a session ended.
type ended struct {
	session   time.Duration // lasted
	conn      time.Duration // lasted
	reason    string
	closeCode int
	cause     error
}

func (s *story) firstAudio(d time.Duration) {
	if s.first == 0 {
		s.first = d
	}
}

func (s *story) utteranceOver(why Reason, sound *sound) {
	s.underruns += int32(sound.underruns) //nolint:gosec // a count
	s.lateness = max(s.lateness, sound.lateness)
	switch why {
	case Completed:
		s.completed++
	case Stopped:
		s.stopped++
	case Failed:
		s.failed++
	case CutOff:
		s.cutOff++
	}
}

func (s *story) tell(ctx context.Context, log *slog.Logger, worker, model string, frames uint64) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("reason", s.ended.reason),
		slog.Int("close_code", s.ended.closeCode),
		slog.Float64("duration_seconds", s.ended.conn.Seconds()),
		slog.Float64("session_seconds", s.ended.session.Seconds()),
		slog.Int("messages", s.messages-s.before),
		slog.Int("characters", s.characters),
		slog.Int("utterances_completed", int(s.completed)),
		slog.Int("utterances_stopped", int(s.stopped)),
		slog.Int("utterances_failed", int(s.failed)),
		slog.Int("utterances_cut_off", int(s.cutOff)),
		slog.Uint64("frames", frames-s.after),
		slog.Uint64("frames_dropped_by_stop", s.dropped),
		slog.Float64("first_audio_ms", float64(s.first.Microseconds())/1000),
		slog.Float64("worst_lateness_ms", float64(s.lateness.Microseconds())/1000),
		slog.Int("underruns", int(s.underruns)),
		slog.Int("errors", int(s.errors)),
		slog.String("worker", worker),
		slog.String("model", model),
	}
	if cause := s.ended.cause; cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
		if e, ok := errors.AsType[*Error](cause); ok {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("resolution", e.Resolution), slog.String("runbook", e.Code.Runbook()))
		}
	}
	log.LogAttrs(ctx, level, "session ended", attrs...)
}
