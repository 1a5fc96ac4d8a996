package handlers

import (
	"github.com/voxedge/voxedge/middleware"
	"github.com/voxedge/voxedge/session"
)

// refuseUpgraded tells a browser, which sees nothing of an HTTP status, why it
// may not come in.
func refuseUpgraded(conn *client, r *middleware.Refusal) {
	defer conn.close()
	_ = conn.WriteText(session.EncodeError(r.Err))
	conn.Close(r.Close, string(r.Err.Code))
	if conn.Blocked() {
		_ = conn.Flush(linger)
	}
	conn.drain()
}
