package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// synthesize has one Synthesize stream speak the script, and hands its frames
// on. delivered counts the frames emitted over all attempts; the first of them
// are left out here. A failure of the worker comes back as a *workerFault.
func (s *speaker) synthesize(ctx context.Context, w *Worker, script *session.Script, delivered *uint64, emit func(session.Frame) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)

	stream, err := w.tts.Synthesize(ctx)
	if err != nil {
		return &workerFault{worker: w, err: err}
	}
	watch := newWatchdog(w, s.pool.cfg, cancel)
	defer watch.close()
	sending.Go(func() { sendText(ctx, stream, s.id, script, watch) })

	out := &framer{skip: *delivered, delivered: delivered, emit: emit}
	began := time.Now()
	for first := true; ; first = false {
		watch.waiting()
		frame, err := stream.Recv()
		watch.heard()
		if errors.Is(err, io.EOF) {
			return out.finish() // an end without a final frame is an end
		}
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
				err = cause
			}
			return &workerFault{worker: w, err: err, text: aboutText(err)}
		}
		if first {
			w.firstFrame(time.Since(began))
		}
		if err := checkFrame(frame, s.id); err != nil {
			return &workerFault{worker: w, err: err}
		}
		if err := out.write(frame, time.Now()); err != nil {
			return err
		}
		if frame.GetIsFinal() {
			if err := out.finish(); err != nil {
				return err
			}
			awaitEnd(stream, watch)
			return nil
		}
	}
}

// sendText sends the script as it grows and half-closes after its last chunk,
// for some workers speak only then.
func sendText(ctx context.Context, stream proto.TTSService_SynthesizeClient, id string, script *session.Script, watch *watchdog) {
	for i := 0; ; i++ {
		text, last, err := script.Chunk(ctx, i)
		if err != nil {
			return
		}
		if err := stream.Send(&proto.TextChunk{SessionId: id, Text: text, IsFinal: last, SequenceNumber: int64(i + 1)}); err != nil {
			return // Recv says why
		}
		if last {
			_ = stream.CloseSend()
			watch.textSent()
			return
		}
	}
}

// aboutText reports whether the worker says that the text itself is at fault.
func aboutText(err error) bool {
	code := status.Code(err)
	return code == codes.InvalidArgument || code == codes.OutOfRange
}

// checkFrame holds a frame against the worker contract.
func checkFrame(f *proto.AudioFrame, id string) error {
	switch {
	case len(f.GetAudioData()) == 0 && !f.GetIsFinal():
		return errors.New("it sent a frame with no audio that is not final")
	case f.GetSessionId() != "" && f.GetSessionId() != id:
		return fmt.Errorf("it sent audio of another session, %.40q", f.GetSessionId())
	case f.GetSampleRate() != 0 && f.GetSampleRate() != session.SampleRate:
		return fmt.Errorf("it sent audio at %d Hz; it must resample to %d", f.GetSampleRate(), session.SampleRate)
	}
	return nil
}

// awaitEnd lets a worker that has sent its last frame end the stream, so that
// it does not see a cancellation. What else it sends is not audio to anyone.
func awaitEnd(stream proto.TTSService_SynthesizeClient, watch *watchdog) {
	watch.final()
	for {
		watch.waiting()
		if _, err := stream.Recv(); err != nil {
			return
		}
		watch.heard()
	}
}

// framer cuts what a worker sends into whole frames and leaves out those that
// were delivered before.
type framer struct {
	rest      []byte // of a frame that is not whole
	skip      uint64
	delivered *uint64
	emit      func(session.Frame) error
}

func (f *framer) write(from *proto.AudioFrame, received time.Time) error {
	out := session.Frame{Received: received, Traceparent: from.GetTraceparent(), Emitted: from.GetEmittedUnixNano()}
	data := from.GetAudioData()
	for len(data) > 0 {
		if len(f.rest) == 0 && len(data) >= session.FrameBytes {
			out.PCM, data = data[:session.FrameBytes], data[session.FrameBytes:]
		} else {
			n := min(session.FrameBytes-len(f.rest), len(data))
			f.rest, data = append(f.rest, data[:n]...), data[n:]
			if len(f.rest) < session.FrameBytes {
				return nil
			}
			out.PCM, f.rest = f.rest, f.rest[:0]
		}
		if err := f.deliver(out); err != nil {
			return err
		}
	}
	return nil
}

// finish fills what is left up with silence to a last whole frame.
func (f *framer) finish() error {
	if len(f.rest) == 0 {
		return nil
	}
	f.rest = append(f.rest, make([]byte, session.FrameBytes-len(f.rest))...)
	return f.deliver(session.Frame{PCM: f.rest, Received: time.Now()})
}

func (f *framer) deliver(frame session.Frame) error {
	if f.skip > 0 {
		f.skip--
		return nil
	}
	if err := f.emit(frame); err != nil {
		return err
	}
	*f.delivered++
	return nil
}

var errStalled = errors.New("it stalled")

// watchdog ends a stream whose worker owes a frame for too long. It counts
// only while the edge waits for the worker: not while the client holds it up,
// and not while the text is still coming in, unless the worker also fails its
// health check.
type watchdog struct {
	worker *Worker
	cfg    PoolConfig
	cancel context.CancelCauseFunc
	timer  *time.Timer

	since atomic.Int64 // Unix nanoseconds of the start of the wait, or 0
	phase atomic.Int32
}

const (
	phaseText  = iota // text is still coming in
	phaseFirst        // all text is sent, no frame has come
	phaseFrames
	phaseFinal // the last frame has come
)

const (
	watchInterval  = 250 * time.Millisecond
	unhealthyLimit = time.Second
	finalLimit     = 500 * time.Millisecond
)

func newWatchdog(w *Worker, cfg PoolConfig, cancel context.CancelCauseFunc) *watchdog {
	d := &watchdog{worker: w, cfg: cfg, cancel: cancel}
	d.timer = time.AfterFunc(watchInterval, d.look)
	return d
}

func (d *watchdog) close() { d.timer.Stop() }

func (d *watchdog) waiting() { d.since.Store(time.Now().UnixNano()) }

func (d *watchdog) heard() {
	d.since.Store(0)
	d.phase.CompareAndSwap(phaseFirst, phaseFrames)
}

func (d *watchdog) textSent() {
	if d.since.Load() != 0 {
		d.waiting() // the worker owes a frame only now
	}
	d.phase.CompareAndSwap(phaseText, phaseFirst)
}

func (d *watchdog) final() { d.phase.Store(phaseFinal) }

func (d *watchdog) look() {
	limit := d.limit()
	since := d.since.Load()
	if since != 0 && limit > 0 {
		if waited := time.Since(time.Unix(0, since)); waited >= limit {
			d.cancel(fmt.Errorf("%w: nothing came for %s", errStalled, waited.Round(time.Millisecond)))
			return
		}
	}
	d.timer.Reset(watchInterval)
}

func (d *watchdog) limit() time.Duration {
	var limit time.Duration
	switch d.phase.Load() {
	case phaseFirst:
		limit = d.cfg.FirstFrameTimeout
	case phaseFrames:
		limit = d.cfg.StallTimeout
	case phaseFinal:
		limit = finalLimit
	}
	if d.worker.state.Load().err != nil && (limit == 0 || limit > unhealthyLimit) {
		limit = unhealthyLimit
	}
	return limit
}
