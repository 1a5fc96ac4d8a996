package session

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// roomy is a config whose limits no test reaches by accident: a lead of three
// frames, and all the time there is.
var roomy = Config{MaxSessions: 2, MaxMessages: 99, MaxUtterances: 9, MaxUtteranceRunes: 99, QueueFrames: 50, PacingLead: 3 * FrameDuration,
	SlowClientTimeout: time.Hour, IdleTimeout: time.Hour, MaxDuration: time.Hour, PingInterval: time.Hour, ResumeWindow: time.Hour}
