package session

import (
	"errors"
	"fmt"
	"strings"
)

// Code names an error to the client; the set is part of the wire contract.
type Code string

// The codes of the wire contract.
const (
	InvalidMessage    Code = "INVALID_MESSAGE"
	WorkerUnavailable Code = "WORKER_UNAVAILABLE"
	SynthesisFailed   Code = "SYNTHESIS_FAILED"
	ConnectionError   Code = "CONNECTION_ERROR"
	InternalError     Code = "INTERNAL_ERROR"
	Unauthorized      Code = "UNAUTHORIZED"
	ForbiddenOrigin   Code = "FORBIDDEN_ORIGIN"
	RateLimited       Code = "RATE_LIMITED"
	AtCapacity        Code = "AT_CAPACITY"
	Draining          Code = "DRAINING"
	SessionNotFound   Code = "SESSION_NOT_FOUND"
	LimitReached      Code = "LIMIT_REACHED"
	SlowClient        Code = "SLOW_CLIENT"
)

// Runbook is where the documents say what the code means and what to do.
func (c Code) Runbook() string {
	file, ok := map[Code]string{
		WorkerUnavailable: "workers.md", SynthesisFailed: "workers.md",
		RateLimited: "backpressure.md", AtCapacity: "backpressure.md", Draining: "backpressure.md", LimitReached: "backpressure.md", SlowClient: "backpressure.md",
	}[c]
	if !ok {
		file = "websocket.md"
	}
	return "docs/runbooks/" + file + "#" + strings.ToLower(string(c))
}

// Codes are all of the wire contract.
var Codes = []Code{
	InvalidMessage, WorkerUnavailable, SynthesisFailed, ConnectionError, InternalError, Unauthorized, ForbiddenOrigin,
	RateLimited, AtCapacity, Draining, SessionNotFound, LimitReached, SlowClient,
}

// Error is an error for a human: what it is called, what happened and what to
// do about it. Err, if any, is for the log alone.
type Error struct {
	Code       Code
	Cause      string
	Resolution string
	Err        error
}

// Errorf returns an Error whose cause is formatted.
func Errorf(code Code, resolution, cause string, args ...any) *Error {
	return &Error{Code: code, Cause: fmt.Sprintf(cause, args...), Resolution: resolution}
}

// Message is the cause and the resolution, as the client reads them.
func (e *Error) Message() string { return e.Cause + ". " + e.Resolution + "." }

// Error is the code, the cause and what lies under it.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Cause, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Cause)
}

// Unwrap returns what lies under the error.
func (e *Error) Unwrap() error { return e.Err }

// asError returns err as an Error; what has no code of its own is ours to answer for.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{
		Code:       InternalError,
		Cause:      "the edge failed to speak this text",
		Resolution: "Send it again; if it fails again, give the session id to the operator",
		Err:        err,
	}
}
