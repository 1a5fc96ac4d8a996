package session

// State is where a session stands.
type State uint8

// The states of a session; the package comment draws them.
const (
	Idle     State = iota // nothing to speak
	Speaking              // utterances to speak
	Paused                // utterances to speak, held
	Holding               // nothing to speak, and what comes is held
	Ended                 // over; nothing leads out
	states
)

// String returns the state's name in lower case.
func (s State) String() string {
	return [...]string{"idle", "speaking", "paused", "holding", "ended"}[s]
}

// held reports whether frames stay in the queue.
func (s State) held() bool { return s == Paused || s == Holding }

type event uint8

const (
	eventText   event = iota // the client sent text that is accepted
	eventSpoken              // the last accepted utterance is over
	eventPause
	eventResume
	eventStop
	eventEnd
	events
)

// illegal marks a transition that cannot be: it is refused and the state stays.
const illegal = states

var transitions = [states][events]State{
	//         text      spoken   pause    resume    stop  end
	Idle:     {Speaking, illegal, Holding, Idle, Idle, Ended},
	Speaking: {Speaking, Idle, Paused, Speaking, Idle, Ended},
	Paused:   {Paused, illegal, Paused, Speaking, Idle, Ended},
	Holding:  {Paused, illegal, Holding, Idle, Idle, Ended},
	Ended:    {illegal, illegal, illegal, illegal, illegal, illegal},
}

// on returns the state that e leads to, and false if e cannot happen in s.
func (s State) on(e event) (State, bool) {
	next := transitions[s][e]
	if next == illegal {
		return s, false
	}
	return next, true
}
