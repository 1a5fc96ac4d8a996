// Package handlers owns the Fiber routes: the WebSocket upgrade, the socket under
// it and how frames leave through many of them at once, health, and the answers to
// those who came to the wrong door. It may import session and middleware.
package handlers
