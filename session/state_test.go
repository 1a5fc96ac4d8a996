package session

import "testing"

// The whole table, spelled out a second time: a change of one must be meant.
func TestTransitions(t *testing.T) {
	no := illegal
	want := map[State]map[event]State{
		Idle:     {eventText: Speaking, eventSpoken: no, eventPause: Holding, eventResume: Idle, eventStop: Idle, eventEnd: Ended},
		Speaking: {eventText: Speaking, eventSpoken: Idle, eventPause: Paused, eventResume: Speaking, eventStop: Idle, eventEnd: Ended},
		Paused:   {eventText: Paused, eventSpoken: no, eventPause: Paused, eventResume: Speaking, eventStop: Idle, eventEnd: Ended},
		Holding:  {eventText: Paused, eventSpoken: no, eventPause: Holding, eventResume: Idle, eventStop: Idle, eventEnd: Ended},
		Ended:    {eventText: no, eventSpoken: no, eventPause: no, eventResume: no, eventStop: no, eventEnd: no},
	}
	for from := range states {
		for e := range events {
			got, ok := from.on(e)
			expected := want[from][e]
			if expected == no {
				if ok || got != from {
					t.Errorf("%s on event %d led to %s; it must be refused", from, e, got)
				}
				continue
			}
			if !ok || got != expected {
				t.Errorf("%s on event %d led to %s (%v), want %s", from, e, got, ok, expected)
			}
		}
	}
}

func TestOnlyPausesHold(t *testing.T) {
	for s, want := range map[State]bool{Idle: false, Speaking: false, Paused: true, Holding: true, Ended: false} {
		if s.held() != want {
			t.Errorf("%s.held() = %v", s, !want)
		}
	}
}
