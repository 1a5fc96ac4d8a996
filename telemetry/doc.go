// Package telemetry owns what voxedge tells about itself: logs, metrics and
// traces. It imports nothing of ours.
//
// # The trace of a frame
//
// Frames are far too many for a span each to be started and ended where sound
// flows. There, [Frames.Record] writes a few numbers into memory that is
// already there: no lock, no allocation. A single goroutine, the exporter,
// reads what is published behind the writer's back, makes OTLP spans of it in
// bulk and sends them from where they lie, a fraction of a second later. The few
// other spans, of sessions, utterances and calls, are the SDK's, and leave by the
// same way.
//
// The memory is bounded for the whole process. Where the collector is away for
// so long that it is all taken, an utterance that needs more is given up whole,
// and that is counted: a trace has all of its frames, or says that it has not.
package telemetry
