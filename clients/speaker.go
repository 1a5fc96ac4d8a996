package clients

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

const (
	// maxAttempts is how many tries one utterance is given. A text that fails
	// that often is likelier at fault than the workers.
	maxAttempts = 4
	maxRefusals = 16 // of a session, by workers that are full or want it not
	// maxRest is how long one utterance waits for workers that rest after a
	// failure, or are not checked yet, when there is no other.
	maxRest     = 2 * time.Second
	callTimeout = 2 * time.Second // for EndSession and Control
)

// speaker is a session's way to the workers. The session stays with one worker
// from utterance to utterance, for as long as that worker serves it.
type speaker struct {
	pool   *Pool
	id     string
	params session.Params

	mu       sync.Mutex
	bound    *Worker     // where the session is started
	model    string      // asked for by the client, then settled by the first worker
	wire     string      // the session's name where it is bound
	starts   int         // how often it was started anywhere
	last     string      // the name of the last worker
	paused   atomic.Bool // the worker was told so
	commands []proto.ControlCommand
	told     chan struct{} // while a goroutine tells the worker of commands; closed when it has
}

var _ session.Speaker = (*speaker)(nil)

// Speak has the script spoken, by another worker when one fails: the text is
// given to it from the last place on, and the frames that are done are left out.
func (s *speaker) Speak(ctx context.Context, script *session.Script, from session.Place, skip *uint64, emit func(session.Frame) error) error {
	out := newFramer(from, skip, emit)
	attempts := attempts{avoid: map[*Worker]bool{}, refused: map[*Worker]bool{}}
	for {
		w, err := s.start(ctx, &attempts)
		if err == nil {
			err = s.speakAt(ctx, w, script, out)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		again := attempts.again(ctx, err)
		if again != nil {
			return again
		}
		if _, failed := errors.AsType[*workerFault](err); !failed {
			continue // it only waited for one to have rested, or to be checked
		}
		s.pool.cfg.Recorder.FailedOver()
		trace.SpanFromContext(ctx).AddEvent("failover", trace.WithAttributes(
			attribute.String("voxedge.cause", err.Error()), attribute.Int64("voxedge.frames_done", int64(out.done)), //nolint:gosec // a count
			attribute.Int64("voxedge.spoken_again", int64(out.done-out.place.Frames)))) //nolint:gosec // a count
		s.pool.log.WarnContext(ctx, "a worker failed; the utterance goes on elsewhere", "session_id", s.id,
			"cause", err.Error(), "frames_done", out.done, "spoken_again", out.done-out.place.Frames,
			"resolution", "look at that worker's log; the client hears no gap while another worker is left")
	}
}

// attempts is what came of the tries at one utterance.
type attempts struct {
	failures []error
	answered bool // a worker answered with a failure; it was not just gone
	avoid    map[*Worker]bool
	refused  map[*Worker]bool
	waited   time.Duration
}

// again returns nil when another try is worth it after err, and otherwise the
// error to end with. It waits for a worker that only rests, or is new.
func (a *attempts) again(ctx context.Context, err error) error {
	if fault, ok := errors.AsType[*workerFault](err); ok {
		return a.afterFault(fault)
	}
	none, ok := errors.AsType[*noWorker](err)
	if !ok {
		return err // the session wants no more of it
	}
	if none.rest == 0 || a.waited+none.rest > maxRest {
		return workerUnavailable(none, a.failures)
	}
	a.waited += none.rest
	select {
	case <-time.After(none.rest):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *attempts) afterFault(fault *workerFault) error {
	a.failures = append(a.failures, fault)
	switch fault.kind {
	case faultText:
		return synthesisFailed(fault)
	case faultRefusal:
		a.refused[fault.worker] = true
	case faultAnswer:
		a.answered = true
		a.avoid[fault.worker] = true
	case faultGone:
		a.avoid[fault.worker] = true
	}
	switch {
	case len(a.failures)-len(a.refused) >= maxAttempts && a.answered:
		return synthesisFailed(errors.Join(a.failures...))
	case len(a.failures)-len(a.refused) >= maxAttempts, len(a.refused) >= maxRefusals:
		return workerUnavailable(errTooManyTries, a.failures)
	}
	return nil
}

var errTooManyTries = errors.New("it was tried often enough")

// start returns the worker that the session is started at, or starts it at one.
func (s *speaker) start(ctx context.Context, tried *attempts) (*Worker, error) {
	if err := s.awaitTold(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	bound, settled := s.bound, s.model
	s.mu.Unlock()
	if bound != nil && bound.state.Load().err == nil {
		return bound, nil
	}
	s.leave()
	w, err := s.pool.pick(want{model: s.params.Model, prefer: settled, language: s.params.Language, avoid: tried.avoid, refused: tried.refused})
	if err != nil {
		return nil, err
	}
	model := s.modelAt(w, settled)
	if err := s.startAt(ctx, w, model); err != nil {
		return nil, err
	}
	s.bind(w, model)
	return w, nil
}

// modelAt returns the model to ask w for. A worker that chooses one itself may
// choose another than the last did, so the edge chooses where the client does
// not: what was settled on, or what is resident, or as a last resort nothing.
func (s *speaker) modelAt(w *Worker, settled string) string {
	state := w.state.Load()
	switch {
	case s.params.Model != "":
		return s.params.Model
	case settled != "" && state.has(settled):
		return settled
	case len(state.resident) > 0:
		return state.resident[0]
	}
	return ""
}

func (s *speaker) bind(w *Worker, model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound, s.model, s.last = w, model, w.Name
	s.pool.cfg.Recorder.WorkerPicked(w.Name)
	s.paused.Store(false) // a pause that this worker was not told of does not bind it
	s.pool.log.Debug("session bound to a worker", "session_id", s.id, "worker", w.Name, "model", model)
}

// forgotten drops the binding to a worker that does not know the session.
func (s *speaker) forgotten(w *Worker) (model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = nil
	w.release()
	return s.model
}

// startAt starts the session at w, each time under another name: the end of an
// earlier start, which nobody waits for, must not end a later one.
func (s *speaker) startAt(ctx context.Context, w *Worker, model string) error {
	w.hold()
	s.mu.Lock()
	s.starts++
	if s.wire = s.id; s.starts > 1 {
		s.wire = fmt.Sprintf("%s.%d", s.id, s.starts)
	}
	wire := s.wire
	s.mu.Unlock()
	starting, cancel := context.WithTimeout(ctx, s.pool.cfg.StartTimeout)
	defer cancel()
	options := map[string]string{}
	for name, value := range s.params.Options {
		options[name] = value
	}
	if s.params.Language != "" {
		options["language"] = s.params.Language
	}
	starting, ended := w.calls.begin(starting, proto.TTSService_StartSession_FullMethodName)
	reply, err := w.tts.StartSession(starting, &proto.StartSessionRequest{SessionId: wire, ModelId: model, Options: options})
	ended(err)
	switch {
	case err != nil:
		s.endAt(w, wire) // it may have been started all the same
		if ctx.Err() != nil {
			return ctx.Err() // the client's doing, not the worker's
		}
		fault := &workerFault{worker: w, err: rpcError("StartSession", err), kind: kindOfStart(err)}
		if fault.kind != faultRefusal {
			w.breaker.failed(time.Now())
		}
		s.pool.cfg.Recorder.WorkerFailed(w.Name, fault.kind.String())
		return fault
	case !reply.GetSuccess():
		w.release()
		w.breaker.succeeded() // it answers; it does not want this session
		s.pool.cfg.Recorder.WorkerFailed(w.Name, faultRefusal.String())
		return &workerFault{worker: w, err: &refusal{reply.GetMessage()}, kind: faultRefusal}
	}
	return nil
}

// speakAt has the script spoken by w. A worker that has forgotten the session,
// because it was started anew, is told of it once more.
func (s *speaker) speakAt(ctx context.Context, w *Worker, script *session.Script, out *framer) error {
	w.streams.Add(1)
	defer w.streams.Add(-1)
	err := s.synthesize(ctx, w, script, out)
	if status.Code(errors.Unwrap(err)) == codes.NotFound {
		model := s.forgotten(w)
		if err := s.startAt(ctx, w, model); err != nil {
			return err
		}
		s.bind(w, model)
		err = s.synthesize(ctx, w, script, out)
	}
	fault, failed := errors.AsType[*workerFault](err)
	switch {
	case err == nil:
		w.breaker.succeeded()
	case failed && ctx.Err() == nil && fault.kind != faultText:
		s.pool.cfg.Recorder.WorkerFailed(w.Name, fault.kind.String())
		w.breaker.failed(time.Now())
		s.leave()
	}
	return err
}

// leave ends the session at the worker it is bound to.
func (s *speaker) leave() {
	s.mu.Lock()
	w, wire := s.bound, s.wire
	s.bound = nil
	s.mu.Unlock()
	if w != nil {
		s.endAt(w, wire)
	}
}

// endAt tells the worker that the session is over. Nobody waits for a worker
// that may hang, but the pool does when it closes.
func (s *speaker) endAt(w *Worker, wire string) {
	s.pool.calls.Go(func() {
		defer w.release()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		if _, err := w.tts.EndSession(ctx, &proto.EndSessionRequest{SessionId: wire}); err != nil {
			s.pool.log.Debug("EndSession failed", "session_id", s.id, "worker", w.Name, "cause", err.Error())
		}
	})
}

// Control tells the worker of a command, in the order of the commands, if the
// worker has said that it keeps sessions apart: elsewhere a pause would stall
// and a stop would silence other sessions.
func (s *speaker) Control(c session.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound == nil || !s.bound.state.Load().caps.GetSessionControl() && !s.paused.Load() { // a pause that it was told of has an end
		return
	}
	s.paused.Store(c == session.Pause)
	s.commands = append(s.commands, proto.ControlCommand(proto.ControlCommand_value[string(c)]))
	if s.told == nil {
		s.told = make(chan struct{})
		w, wire := s.bound, s.wire
		s.pool.calls.Go(func() { s.tell(w, wire) })
	}
}

func (s *speaker) tell(w *Worker, wire string) {
	for {
		s.mu.Lock()
		if len(s.commands) == 0 {
			close(s.told)
			s.told = nil
			s.mu.Unlock()
			return
		}
		command := s.commands[len(s.commands)-1] // the last one says what holds
		s.commands = s.commands[:0]
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		_, err := w.tts.Control(ctx, &proto.ControlRequest{SessionId: wire, Command: command})
		cancel()
		if err != nil {
			s.pool.log.Debug("Control failed", "session_id", s.id, "worker", w.Name, "command", command.String(), "cause", err.Error())
			if command == proto.ControlCommand_STOP {
				s.leave() // it may come late yet, and must not stop what is spoken next
			}
		}
	}
}

// awaitTold keeps a late STOP from reaching the worker after the next
// utterance has begun there.
func (s *speaker) awaitTold(ctx context.Context) error {
	s.mu.Lock()
	told := s.told
	s.mu.Unlock()
	if told == nil {
		return nil
	}
	select {
	case <-told:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Worker names the worker and the model last in use.
func (s *speaker) Worker() (name, model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.model
}

// Close ends the session at its worker.
func (s *speaker) Close() { s.leave() }

// workerFault is a failure that another worker might not have.
type workerFault struct {
	worker *Worker
	err    error
	kind   faultKind
}

type faultKind uint8

const (
	faultAnswer  faultKind = iota // it answered with an error, or not by the contract
	faultGone                     // it is not there, or no longer
	faultRefusal                  // it does not want the session
	faultText                     // it says that the text is at fault, so no other would help
)

func (k faultKind) String() string {
	return [...]string{faultAnswer: "error", faultGone: "gone", faultRefusal: "refusal", faultText: "text"}[k]
}

// kindOf tells from a failed call what kind of fault it is.
func kindOf(err error) faultKind {
	switch code := status.Code(err); {
	case code == codes.InvalidArgument, code == codes.OutOfRange:
		return faultText
	case code == codes.Unavailable, code == codes.DeadlineExceeded, errors.Is(err, errStalled):
		return faultGone
	}
	return faultAnswer
}

// kindOfStart tells it of a StartSession, which has not seen the text.
func kindOfStart(err error) faultKind {
	if status.Code(err) == codes.ResourceExhausted {
		return faultRefusal // it is full, and says so with a status
	}
	if kind := kindOf(err); kind != faultText {
		return kind
	}
	return faultAnswer
}

func (f *workerFault) Error() string { return fmt.Sprintf("worker %s: %v", f.worker.Name, f.err) }
func (f *workerFault) Unwrap() error { return f.err }

func synthesisFailed(err error) *session.Error {
	e := session.Errorf(session.SynthesisFailed, "Send other text, or try again later; the worker's log says more",
		"the workers could not speak this text")
	if fault, ok := errors.AsType[*workerFault](err); ok && fault.kind == faultText {
		e.Cause = fmt.Sprintf("the worker says that the text is at fault: %.200s", status.Convert(fault.err).Message())
	}
	e.Err = err
	return e
}

// workerUnavailable tells the client what it asks for and cannot have, and of
// everything else only that it is so.
func workerUnavailable(none error, failures []error) *session.Error {
	e := session.Errorf(session.WorkerUnavailable, "Send the text again in a few seconds; the operator finds the cause with voxedge doctor",
		"no worker can speak now")
	e.Err = errors.Join(append(failures, none)...)
	var refusal *refusal
	if why, ok := errors.AsType[*noWorker](none); ok && why.lacking != "" {
		e.Cause = "no worker has " + why.lacking
		e.Resolution = "Connect with another, or have the operator start a worker that has it"
	} else if errors.As(e.Err, &refusal) && refusal.message != "" {
		e.Cause = fmt.Sprintf("no worker takes this session; one says: %.200s", refusal.message)
		e.Resolution = "Connect with another model, language or option if that is the cause, else send the text again in a few seconds"
	}
	return e
}

// refusal is a worker's answer that it does not want the session.
type refusal struct{ message string }

func (r *refusal) Error() string { return fmt.Sprintf("it refused the session: %.500s", r.message) }
