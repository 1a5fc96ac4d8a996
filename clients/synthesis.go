package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/session"
)

// synthesize has one Synthesize stream speak the script, and hands its frames
// to out. A failure of the worker comes back as a *workerFault.
func (s *speaker) synthesize(ctx context.Context, w *Worker, script *session.Script, out *framer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)
	ctx, ended := w.calls.begin(ctx, proto.TTSService_Synthesize_FullMethodName)
	end := errLeft
	defer func() { ended(end) }()

	watch := newWatchdog(w, s.pool.cfg, &s.paused, cancel)
	defer watch.close()
	stream, err := w.tts.Synthesize(ctx, grpc.ForceCodecV2(frames))
	if err != nil {
		end = err
		return streamFault(ctx, w, err)
	}
	watch.opened()
	s.mu.Lock()
	wire := s.wire
	s.mu.Unlock()
	spoken := out.restart()
	sending.Go(func() { sendText(ctx, stream, wire, script, spoken, watch) })

	began := time.Now()
	var frame audioFrame
	defer frame.release()
	watch.waiting()
	for first := true; ; first = false {
		err := stream.RecvMsg(&frame)
		waited := watch.heard()
		if err != nil {
			end = err
		}
		if errors.Is(err, io.EOF) {
			return out.finish() // an end without a final frame is an end
		}
		if err != nil {
			return streamFault(ctx, w, err)
		}
		if first {
			w.firstFrame(time.Since(began))
			w.breaker.succeeded()
		}
		if err := checkFrame(&frame, wire); err != nil {
			return &workerFault{worker: w, err: err}
		}
		if frame.textBefore != 0 && len(frame.audio) > 0 {
			if err := out.name(frame.textBefore, script); err != nil {
				return &workerFault{worker: w, err: err}
			}
		}
		before := out.at
		if err := out.write(&frame, time.Now()); err != nil {
			return err
		}
		if first || out.at > before {
			watch.waiting()
		} else {
			watch.stillWaiting(waited) // for the rest of a frame
		}
		if out.at > boundless && out.at > boundless+boundlessRune*uint64(script.Runes()) { //nolint:gosec // a count
			return &workerFault{worker: w, err: fmt.Errorf("it speaks without end: %d frames for %d characters", out.at, script.Runes())}
		}
		if frame.final {
			if err := out.finish(); err != nil {
				return err
			}
			end = awaitEnd(stream, &frame, watch)
			return nil
		}
	}
}

// streamFault is a stream's failure, or the stall that it was ended for.
func streamFault(ctx context.Context, w *Worker, err error) *workerFault {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		err = cause
	}
	return &workerFault{worker: w, err: err, kind: kindOf(err)}
}

// An utterance of more frames than these is no speech: a minute, and two seconds
// a character besides.
const (
	boundless     = 3000
	boundlessRune = 100
)

// maxBeside bounds, in bytes, what a message may have beside its audio.
const maxBeside = 4 << 10

// sendText sends the script as it grows, but for its first so many characters, and
// half-closes after its last chunk, for some workers speak only then.
func sendText(ctx context.Context, stream proto.TTSService_SynthesizeClient, id string, script *session.Script, spoken int, watch *watchdog) {
	for i, sent := 0, int64(0); ; i++ {
		text, last, err := script.Chunk(ctx, i)
		if err != nil {
			return
		}
		if text, spoken = session.After(text, spoken); text == "" && !last {
			continue
		}
		sent++
		if err := stream.Send(&proto.TextChunk{SessionId: id, Text: text, IsFinal: last, SequenceNumber: sent}); err != nil {
			return // Recv says why
		}
		if last {
			_ = stream.CloseSend()
			watch.textSent()
			return
		}
	}
}

// checkFrame holds a frame against the worker contract.
func checkFrame(f *audioFrame, id string) error {
	switch {
	case len(f.audio) == 0 && !f.final:
		return errors.New("it sent a frame with no audio that is not final")
	case f.buffer != nil && f.buffer.Len() > len(f.audio)+maxBeside:
		return fmt.Errorf("it sent %d bytes of something else with %d of audio", f.buffer.Len()-len(f.audio), len(f.audio))
	case len(f.sessionID) > 0 && string(f.sessionID) != id:
		return fmt.Errorf("it sent audio of another session, %.40q", f.sessionID)
	case f.sampleRate != 0 && f.sampleRate != session.SampleRate:
		return fmt.Errorf("it sent audio at %d Hz; it must resample to %d", f.sampleRate, session.SampleRate)
	}
	return nil
}

// awaitEnd lets a worker that has sent its last frame end the stream, so that
// it does not see a cancellation. What else it sends is not audio to anyone.
func awaitEnd(stream proto.TTSService_SynthesizeClient, frame *audioFrame, watch *watchdog) error {
	watch.final()
	for {
		if err := stream.RecvMsg(frame); err != nil {
			return err
		}
	}
}
