// Package telemetry owns what the edge tells about itself: logs, metrics and
// traces. It imports nothing of ours.
package telemetry
