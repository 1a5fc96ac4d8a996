package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/voxedge/voxedge/session"
)

// listener reads messages and says when each came.
type listener interface {
	// next returns the size of the next message with audio, and the time that it
	// bears, if it bears one.
	next() (size int, sent time.Time, err error)
	close()
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
const warmUp = 100

// listenAll has n sessions listen and measures for as long as lasting; cost is
// called at the begin and the end of it.
func listenAll(ctx context.Context, n int, lasting time.Duration, paced bool, dial func(context.Context) (listener, error), cost func() error) (window, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &measuring{}
	var listening, warm sync.WaitGroup
	errs := make(chan error, n)
	warm.Add(n)
	opening := make(chan struct{}, 32) // at once
	for range n {
		listening.Go(func() {
			opening <- struct{}{}
			l, err := dial(ctx)
			<-opening
			if err != nil {
				errs <- err
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
	for n := 0; ; n++ {
		size, sent, err := l.next()
		if err != nil {
			m.add(latency, arrivals)
			return err
		}
		if n == warmUp {
			warm()
		}
		if !m.on.Load() {
			continue
		}
		m.frames.Add(1)
		m.bytes.Add(int64(size))
		if now := time.Now(); paced {
			arrivals = append(arrivals, now.Sub(began)-time.Duration(n)*session.FrameDuration)
			if !sent.IsZero() {
				latency = append(latency, now.Sub(sent))
			}
		}
	}
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

// relayListener reads messages of a size.
type relayListener struct {
	conn    net.Conn
	message []byte
}

func dialRelay(addr string, messageBytes int) func(context.Context) (listener, error) {
	return func(ctx context.Context) (listener, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return &relayListener{conn, make([]byte, messageBytes)}, err
	}
}

func (l *relayListener) next() (int, time.Time, error) {
	_, err := io.ReadFull(l.conn, l.message)
	return len(l.message), stampOf(l.message), err
}

func (l *relayListener) close() { _ = l.conn.Close() }

func stampOf(b []byte) time.Time {
	return time.Unix(0, int64(binary.LittleEndian.Uint64(b))) //nolint:gosec // as it was written
}

// edgeListener is a client of the edge. Its library is that which costs least to read
// with: the machine is to be the edge's, as it is the relay's.
type edgeListener struct {
	ctx    context.Context
	ws     *websocket.Conn
	buffer []byte
}

// utterance is longer than any window.
var utterance = `{"type":"text","text":"` + strings.Repeat("a", 9000) + `"}`

func dialEdge(url string, binary bool) func(context.Context) (listener, error) {
	return func(ctx context.Context) (listener, error) {
		l, err := openSession(ctx, url, binary)
		if err == nil {
			err = l.speak()
		}
		return l, err
	}
}

// openSession connects and hears the greeting.
func openSession(ctx context.Context, url string, binary bool) (*edgeListener, error) {
	dialer := websocket.Dialer{ReadBufferSize: 8 << 10}
	if binary {
		dialer.Subprotocols = []string{session.BinaryProtocol}
	}
	ws, _, err := dialer.DialContext(ctx, url, nil) //nolint:bodyclose // there is none
	if err != nil {
		return nil, fmt.Errorf("the edge: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = ws.Close() })()
	l := &edgeListener{ctx: ctx, ws: ws, buffer: make([]byte, 8<<10)}
	_, message, err := l.read()
	if err == nil && !bytes.Contains(message, []byte("session_start")) {
		err = fmt.Errorf("the edge begins with %.200s", message)
	}
	return l, err
}

func (l *edgeListener) speak() error {
	return l.ws.WriteMessage(websocket.TextMessage, []byte(utterance))
}

// read returns a message, or as much of it as the buffer holds.
func (l *edgeListener) read() (kind int, message []byte, err error) {
	kind, r, err := l.ws.NextReader()
	if err != nil {
		return kind, nil, err
	}
	n, err := io.ReadFull(r, l.buffer)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return kind, l.buffer[:n], err
}

const binaryHeader = 16

func (l *edgeListener) next() (int, time.Time, error) {
	for {
		kind, message, err := l.read()
		switch {
		case err != nil:
			return 0, time.Time{}, err
		case kind == websocket.BinaryMessage:
			return len(message) + 4, stampOf(message[binaryHeader:]), nil // with WebSocket's own header
		case bytes.HasPrefix(message, []byte(`{"type":"audio"`)):
			return len(message) + 4, time.Time{}, nil
		}
		// On a machine that is too small for so many, workers seem to be away.
		if !bytes.Contains(message, []byte("WORKER_UNAVAILABLE")) && !bytes.HasPrefix(message, []byte(`{"type":"utterance_end"`)) {
			return 0, time.Time{}, fmt.Errorf("the edge says %.200s", message)
		}
		if bytes.Contains(message, []byte("WORKER_UNAVAILABLE")) {
			if err := l.speakLater(); err != nil {
				return 0, time.Time{}, err
			}
		}
	}
}

// speakLater sends the text again after a second, as a client does.
func (l *edgeListener) speakLater() error {
	select {
	case <-time.After(time.Second):
		return l.speak()
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

func (l *edgeListener) close() { _ = l.ws.Close() }
