package bench

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/voxedge/voxedge/session"
)

// listener is a client that hears messages with audio.
type listener interface {
	// listen calls heard for each, until the connection fails.
	listen(heard func(message)) error
	close()
}

// message is one with audio.
type message struct {
	size    int
	arrived time.Time
	sent    time.Time // the zero time unless it bears one
}

// window is what was measured of so many sessions in a time.
type window struct {
	frames   int64
	bytes    int64
	lasting  time.Duration
	latency  []time.Duration // from the making of a frame to its arrival, sorted; nil where frames bear no time
	lateness []time.Duration // of arrivals, against the earliest of their session, sorted; nil unless paced
}

// measuring is a window under way.
type measuring struct {
	on     atomic.Bool
	frames atomic.Int64
	bytes  atomic.Int64
	mu     sync.Mutex
	window window
}

// warmUp is how many messages each session hears before the window: by then all
// memory that is used again and again is there.
const warmUp = 200

// between is the time from one session's begin to the next's. All at once they would be
// measured while a machine that has enough to do recovers from that.
const between = 2 * time.Millisecond

// listenAll has n sessions listen and measures for as long as lasting; cost is
// called at the begin and the end of it.
func listenAll(ctx context.Context, n int, lasting time.Duration, paced bool, dial func(context.Context) (listener, error), cost func() error) (window, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &measuring{}
	var listening, warm sync.WaitGroup
	errs := make(chan error, n)
	opening := time.NewTicker(between)
	defer opening.Stop()
	for range n {
		select {
		case <-opening.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		warm.Add(1)
		listening.Go(func() {
			l, err := dial(ctx)
			if err != nil {
				errs <- err
				cancel()
				warm.Done()
				return
			}
			defer l.close()
			defer context.AfterFunc(ctx, l.close)()
			if err := m.listen(l, paced, warm.Done); err != nil && ctx.Err() == nil {
				errs <- err
			}
		})
	}
	warm.Wait()
	var err error
	select {
	case err = <-errs:
	default:
		err = m.measure(ctx, lasting, cost)
	}
	cancel()
	listening.Wait()
	slices.Sort(m.window.latency)
	slices.Sort(m.window.lateness)
	return m.window, err
}

func (m *measuring) measure(ctx context.Context, lasting time.Duration, cost func() error) error {
	if err := cost(); err != nil {
		return err
	}
	began := time.Now()
	m.on.Store(true)
	select {
	case <-time.After(lasting):
	case <-ctx.Done():
		return ctx.Err()
	}
	m.on.Store(false)
	m.window.lasting = time.Since(began)
	m.window.frames, m.window.bytes = m.frames.Load(), m.bytes.Load()
	return cost()
}

// listen hears one session out.
func (m *measuring) listen(l listener, paced bool, warmedUp func()) error {
	var latency, arrivals []time.Duration // arrivals less their place in the schedule
	began := time.Now()
	warm := sync.OnceFunc(warmedUp)
	defer warm()
	n := 0
	err := l.listen(func(heard message) {
		n++
		if n == warmUp {
			warm()
		}
		if !m.on.Load() {
			return
		}
		m.frames.Add(1)
		m.bytes.Add(int64(heard.size))
		if paced {
			arrivals = append(arrivals, heard.arrived.Sub(began)-time.Duration(n)*session.FrameDuration)
			if !heard.sent.IsZero() {
				latency = append(latency, heard.arrived.Sub(heard.sent))
			}
		}
	})
	m.add(latency, arrivals)
	return err
}

func (m *measuring) add(latency, arrivals []time.Duration) {
	if len(arrivals) > 0 {
		earliest := slices.Min(arrivals)
		for i := range arrivals {
			arrivals[i] -= earliest
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.window.latency = append(m.window.latency, latency...)
	m.window.lateness = append(m.window.lateness, arrivals...)
}
