// Package handlers owns the Fiber routes: the WebSocket upgrade and the socket
// under it, health, and the answers to those who came to the wrong door. It
// may import session and middleware.
package handlers
