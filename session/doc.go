// Package session owns what one client hears: the state machine of its
// session, its utterances, the frame queue, the pacing and the wire encodings.
// It imports nothing of ours but telemetry's recorder interface, and no Fiber,
// gRPC or Redis: a session sees its client as a [Conn] and the workers as a
// [Speaker].
//
// # The way of a frame
//
// A [Speaker] hands each frame to the session's queue, where it is encoded, and
// waits there while the queue is full. [Session.deliver] is where frames leave: of
// the front of the queue it gathers what the pace allows, numbers it and gives it to
// the [Conn], and releases it. It runs in whichever goroutine made progress possible:
// the speaker's when a frame arrived, the clock's when one fell due, the flusher's
// when the socket drained, the reader's on RESUME. The clock has many sessions
// gather, one after another, before it releases them: what they have gathered can
// then be written at once, by a [Sender].
//
// What can be told of a frame that has left, to metrics, traces and the client, is
// put down beside it, and [Session.note] tells it of many at once.
//
// # States
//
//	          text                 PAUSE
//	┌──────┐ ─────▶ ┌──────────┐ ─────────▶ ┌────────┐
//	│ Idle │        │ Speaking │            │ Paused │ ◀─┐ text
//	└──────┘ ◀───── └──────────┘ ◀───────── └────────┘   │
//	 │    ▲  spoken,     │         RESUME       │        │
//	 │    │  STOP        │                      │ STOP ──┼──▶ Idle
//	 │    │ RESUME, STOP │                      │        │
//	 │    └───────────── │ ─────────────── ┌─────────┐   │
//	 └────────────────── │ ──────────────▶ │ Holding │ ──┘
//	        PAUSE        │                 └─────────┘
//	                     ▼ end (from every state)
//	                 ┌───────┐
//	                 │ Ended │
//	                 └───────┘
//
// Holding is a pause with nothing to speak; what is sent then waits in Paused.
// The table is in state.go.
package session
