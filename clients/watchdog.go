package clients

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

var errStalled = errors.New("it stalled")

// watchdog ends a stream whose worker owes a frame for too long. It counts
// only while the edge waits for the worker: not while the client holds it up,
// and not while the text is still coming in, unless the worker also fails its
// health check.
type watchdog struct {
	worker *Worker
	cfg    PoolConfig
	paused *atomic.Bool // the worker was told to hold
	cancel context.CancelCauseFunc
	timer  *time.Timer

	since  atomic.Int64 // Unix nanoseconds of the start of the wait, or 0
	phase  atomic.Int32
	closed atomic.Bool
}

const (
	phaseOpen  = iota // the stream is being opened, for which it may have to wait
	phaseText         // text is still coming in
	phaseFirst        // all text is sent, no frame has come
	phaseFrames
	phaseFinal // the last frame has come
)

const (
	watchInterval  = 250 * time.Millisecond
	unhealthyLimit = time.Second
	finalLimit     = 500 * time.Millisecond
)

func newWatchdog(w *Worker, cfg PoolConfig, paused *atomic.Bool, cancel context.CancelCauseFunc) *watchdog {
	d := &watchdog{worker: w, cfg: cfg, paused: paused, cancel: cancel}
	d.waiting()
	d.timer = time.AfterFunc(math.MaxInt64, d.look)
	d.timer.Reset(watchInterval) // now that look finds the timer
	return d
}

// close ends the looking, but for a look that is under way.
func (d *watchdog) close() {
	d.closed.Store(true)
	d.timer.Stop()
}

func (d *watchdog) opened() {
	d.since.Store(0)
	d.phase.Store(phaseText)
}

// waiting begins a wait for the worker.
func (d *watchdog) waiting() { d.since.Store(time.Now().UnixNano()) }

// heard ends the wait, and returns what stillWaiting takes if it was not for what
// is owed.
func (d *watchdog) heard() (since int64) {
	d.phase.CompareAndSwap(phaseFirst, phaseFrames)
	return d.since.Swap(0)
}

func (d *watchdog) stillWaiting(since int64) { d.since.Store(since) }

func (d *watchdog) textSent() {
	if d.since.Load() != 0 {
		d.waiting() // the worker owes a frame only now
	}
	d.phase.CompareAndSwap(phaseText, phaseFirst)
}

// final begins the wait for the end of the stream, which nothing interrupts.
func (d *watchdog) final() {
	d.phase.Store(phaseFinal)
	d.waiting()
}

func (d *watchdog) look() {
	limit := d.limit()
	since := d.since.Load()
	if since != 0 && d.paused.Load() {
		d.since.CompareAndSwap(since, time.Now().UnixNano()) // it owes nothing meanwhile
	} else if since != 0 && limit > 0 {
		if waited := time.Since(time.Unix(0, since)); waited >= limit {
			d.cancel(fmt.Errorf("%w: nothing came for %s%s", errStalled, waited.Round(time.Millisecond), d.health()))
			return
		}
	}
	if d.timer.Reset(watchInterval); d.closed.Load() {
		d.timer.Stop()
	}
}

// health says that the worker is unwell, for which the wait may have been shorter.
func (d *watchdog) health() string {
	if d.worker.state.Load().err == nil {
		return ""
	}
	return ", and it fails its health checks"
}

func (d *watchdog) limit() time.Duration {
	var limit time.Duration
	switch d.phase.Load() {
	case phaseOpen:
		limit = d.cfg.StartTimeout
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
