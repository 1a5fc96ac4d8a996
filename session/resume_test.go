package session

import (
	"log/slog"
	"testing"

	"github.com/voxedge/voxedge/telemetry"
)

// Who has the token but is somebody else does not even disturb the session.
func TestAnotherClientDisturbsNothing(t *testing.T) {
	hub := NewHub(roomy, fiveFrames{}, nil, nil, slog.New(slog.DiscardHandler), telemetry.Discard{})
	defer hub.Close()
	s := hub.Open(&wire{}, Opening{Params: Params{Pacing: Realtime}, Client: "ann"})
	defer s.Close()
	if _, problem := hub.Resume(t.Context(), s.id, s.token, "bob", 0); problem == nil || problem.Code != SessionNotFound {
		t.Errorf("somebody else is told %v", problem)
	}
	if !s.End(ClientClosed) {
		t.Error("the session has been ended")
	}
}
