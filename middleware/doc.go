// Package middleware owns who may come in: admission, refusals and the log of
// requests. It may import session.
package middleware
