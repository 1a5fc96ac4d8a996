// Package e2e holds the whole-process tests: the real binary, a real Redis,
// real WebSocket clients. It has no code of its own and nothing imports it.
package e2e
