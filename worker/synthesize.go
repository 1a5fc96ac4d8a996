package worker

import (
	"context"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/voxedge/voxedge/proto"
	"github.com/voxedge/voxedge/telemetry"
)

// Synthesize speaks one utterance, sentence by sentence as its text comes in,
// and ends it with an end marker.
func (s *Server) Synthesize(stream proto.TTSService_SynthesizeServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	t := s.session(first.GetSessionId())
	if t == nil {
		return status.Errorf(codes.NotFound, "there is no session %.100q: call StartSession first", first.GetSessionId())
	}
	voice, err := s.engine.Open(t.model, t.options)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	ctx, end := t.stream(stream.Context())
	defer end()

	text := make(chan string)
	s.reading.Go(func() { readText(ctx, stream, first, text) }) // may outlive this call by a moment: Recv ends with it

	frames := &frameWriter{ctx: ctx, stream: stream, session: t, id: first.GetSessionId(), began: time.Now(),
		spans: s.tracer.Frames(ctx, telemetry.Synthesize)}
	defer frames.spans.Close()
	err = s.speakAll(ctx, voice, text, frames)
	switch {
	case errors.Is(context.Cause(ctx), errStopped):
		return frames.endMarker()
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return status.Errorf(codes.Internal, "the engine failed: %v", err)
	}
	return frames.finish()
}

// speakAll speaks the sentences until there are no more, or ctx is done.
func (s *Server) speakAll(ctx context.Context, voice Voice, text <-chan string, out *frameWriter) error {
	for {
		select {
		case sentence, more := <-text:
			if !more {
				return nil
			}
			if err := s.speak(ctx, voice, sentence, out); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// readText sends on the sentences of the utterance as they become complete.
func readText(ctx context.Context, stream proto.TTSService_SynthesizeServer, chunk *proto.TextChunk, text chan<- string) {
	defer close(text)
	send := func(sentence string) bool {
		select {
		case text <- sentence:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var cut sentences
	for {
		for _, sentence := range cut.add(chunk.GetText()) {
			if !send(sentence) {
				return
			}
		}
		if chunk.GetIsFinal() {
			break
		}
		var err error
		if chunk, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return
		}
	}
	if rest := cut.rest(); rest != "" {
		send(rest)
	}
}

func (s *Server) speak(ctx context.Context, voice Voice, sentence string, out *frameWriter) error {
	s.queued(1)
	defer s.queued(-1)
	began, before, waited := time.Now(), out.sent, out.waited
	if voice.PartsStandAlone() {
		out.textBefore = out.text
	}
	err := voice.Speak(ctx, sentence, out)
	out.text += utf8.RuneCountInString(sentence)
	if err == nil && voice.PartsStandAlone() {
		err = out.fill()
	}
	s.spoke(time.Since(began)-(out.waited-waited), time.Duration(out.sent-before)*frameMillis*time.Millisecond)
	return err
}

// frameWriter cuts PCM into frames and sends them.
type frameWriter struct {
	ctx        context.Context
	stream     proto.TTSService_SynthesizeServer
	session    *ttsSession
	id         string
	rest       []byte
	sent       int64
	text       int               // characters that are spoken
	textBefore int               // of them before the next frame, where that is told
	began      time.Time         // the frame that comes next
	spans      *telemetry.Frames // nil when they are not traced
	waited     time.Duration     // for the edge to take frames, and in pauses
}

func (w *frameWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	taken := 0
	for ; len(w.rest)-taken >= frameBytes; taken += frameBytes {
		if err := w.send(w.rest[taken : taken+frameBytes]); err != nil {
			return 0, err
		}
	}
	w.rest = append(w.rest[:0], w.rest[taken:]...)
	return len(p), nil
}

func (w *frameWriter) send(pcm []byte) error {
	made := time.Now()
	defer func() { w.began = time.Now(); w.waited += w.began.Sub(made) }()
	if err := w.session.gate(w.ctx); err != nil {
		return err
	}
	w.sent++
	before := int64(w.textBefore)
	w.textBefore = 0
	emitted := time.Now()
	sequence := uint64(w.sent) //nolint:gosec // a count
	w.spans.Record(telemetry.FrameTimes{Sequence: sequence, Start: w.began.UnixNano(), End: emitted.UnixNano()})
	w.spans.Publish()
	return w.stream.Send(&proto.AudioFrame{
		SessionId: w.id, AudioData: pcm, SampleRate: sampleRate, FrameDurationMs: frameMillis,
		SequenceNumber: w.sent, EmittedUnixNano: emitted.UnixNano(), Traceparent: w.spans.Traceparent(sequence),
		TextBefore: before,
	})
}

// fill fills the last frame up with silence.
func (w *frameWriter) fill() error {
	if len(w.rest) == 0 {
		return nil
	}
	last := append(w.rest, make([]byte, frameBytes-len(w.rest))...) //nolint:gocritic // nothing is kept of it
	w.rest = w.rest[:0]
	return w.send(last)
}

// finish sends what is left and marks the end.
func (w *frameWriter) finish() error {
	if err := w.fill(); err != nil {
		return err
	}
	return w.endMarker()
}

func (w *frameWriter) endMarker() error {
	return w.stream.Send(&proto.AudioFrame{
		SessionId: w.id, SampleRate: sampleRate, FrameDurationMs: frameMillis, SequenceNumber: w.sent + 1, IsFinal: true,
	})
}
