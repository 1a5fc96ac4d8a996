// Package doctor owns the runbook as code: it walks from a client's side inward,
// step by step, and stops at the true cause, with what it measured and what to
// do about it. Every cause has a section in docs/runbooks. It may import clients
// for the registry's format, proto, and session for the codes that an edge
// answers with.
package doctor
