package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	clockGrain = 2 * time.Millisecond
	clockSlots = 128 // frames are due within longestGather and their own time, so the wheel never wraps
)

// clocks pace all sessions from a few goroutines: a wake-up serves every
// session that is due, where a timer a session would cost a wake-up a frame.
// A clock never waits for a session: it writes to sockets that do not block.
type clocks struct {
	all  []*clock
	next atomic.Uint32
	stop chan struct{}
	done sync.WaitGroup
}

// startClocks starts one for each core, or one for two of them if they have senders:
// the more sessions a clock has, the more leaves with one call, and it can send for
// thousands.
func startClocks(cores int, newSender func() Sender) *clocks {
	c := &clocks{stop: make(chan struct{})}
	if newSender != nil {
		for range (cores + 1) / 2 {
			if sender := newSender(); sender != nil {
				c.all = append(c.all, &clock{sender: sender, together: SendAtOnce})
			}
		}
	}
	if len(c.all) == 0 {
		for range cores {
			c.all = append(c.all, &clock{together: 1})
		}
	}
	for _, k := range c.all {
		k.start, k.wake = time.Now(), make(chan struct{}, 1)
		c.done.Go(func() { k.run(c.stop) })
	}
	return c
}

// assign picks the clock that a new session stays with.
func (c *clocks) assign() *clock { return c.all[int(c.next.Add(1))%len(c.all)] }

// close stops the clocks and waits for them.
func (c *clocks) close() {
	close(c.stop)
	c.done.Wait()
	for _, k := range c.all {
		if k.sender != nil {
			k.sender.Close()
		}
	}
}

// clock is a timer wheel of sessions. Only its own goroutine touches the
// wheel; others hand sessions in through the inbox, a lock-free stack.
type clock struct {
	start    time.Time
	inbox    atomic.Pointer[Session]
	sleeping atomic.Int64 // until when, in nanoseconds since start
	wake     chan struct{}
	lastSlot atomic.Int64 // in which a frame came with nothing before it

	slots  [clockSlots]*Session
	cursor int64 // the last slot served, counted from start
	count  int

	sender   Sender // nil: each session writes for itself
	together int    // how many sessions write at once
	begun    []*Session
	conns    []Conn // of those that have gathered

	low []*Session // whose speakers wait, and may go on

	timekeeping timekeeping
}

// SendAtOnce is for how many connections a Sender writes at once, at most.
const SendAtOnce = 64

// add hands in a session that is due at s.due. The caller has the session's
// lock and sees to it that a session is on its clock only once.
func (c *clock) add(s *Session) {
	for {
		s.clockNext = c.inbox.Load()
		if c.inbox.CompareAndSwap(s.clockNext, s) {
			break
		}
	}
	if int64(s.due) < c.sleeping.Load() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// crowd returns when the slot ends that now is in, and whether a frame that has nothing
// before it may wait for that and go with those of other sessions: where one has come
// in this slot already, and so many come that to write them one by one is too much.
func (c *clock) crowd(now time.Time) (end time.Time, crowded bool) {
	slot := int64(now.Sub(c.start) / clockGrain)
	crowded = c.sender != nil && c.lastSlot.Swap(slot) == slot
	return c.start.Add(time.Duration(slot+1) * clockGrain), crowded
}

func (c *clock) run(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c.takeInbox()
		now := time.Now()
		for slot := int64(now.Sub(c.start) / clockGrain); c.cursor < slot; {
			c.cursor++
			now = c.serve(c.cursor, now)
		}
		until := c.nextSlot()
		c.sleeping.Store(int64(until))
		if c.inbox.Load() != nil {
			continue
		}
		timer.Reset(until - time.Since(c.start))
		select {
		case <-timer.C:
		case <-c.wake:
		case <-stop:
			return
		}
		if c.count == 0 && len(c.low) == 0 { // after a long sleep the wheel is empty: nothing to catch up on
			c.cursor = max(c.cursor, int64(time.Since(c.start)/clockGrain)-1)
		}
	}
}

func (c *clock) takeInbox() {
	for s := c.inbox.Swap(nil); s != nil; {
		next := s.clockNext
		c.place(s)
		s = next
	}
}

// place puts the session in the first slot at or after the time it is due.
func (c *clock) place(s *Session) {
	slot := int64((s.due + clockGrain - 1) / clockGrain)
	slot = min(max(slot, c.cursor+1), c.cursor+clockSlots-1)
	s.clockNext = c.slots[slot%clockSlots]
	c.slots[slot%clockSlots] = s
	c.count++
}

// serve has the slot's sessions write, many together where that can be. It takes
// the time when they have written, which is when the next begin: to read it once
// more for that would cost as much as all else of the clock's work.
func (c *clock) serve(slot int64, now time.Time) time.Time {
	s := c.slots[slot%clockSlots]
	c.slots[slot%clockSlots] = nil
	c.timekeeping.slot(now.Sub(c.start), s != nil && now.Sub(c.start) > time.Duration(slot+1)*clockGrain)
	for s != nil {
		next := s.clockNext
		c.count--
		if len(c.begun) == c.together || !s.mu.TryLock() { // nobody waits for a session that is busy
			now = c.finish(now)
			s.mu.Lock()
		}
		if s.beginTick(now) {
			c.begun = append(c.begun, s)
		}
		s = next
	}
	now = c.finish(now)
	if slot%refillSlots == 0 || len(c.low) >= refillAtOnce {
		c.refill()
	}
	return now
}

// refill has the speakers go on whose queues are low. What that wakes, from here to the
// worker and back, costs as much for one as for some, but the frames that are due next
// wait behind those of too many.
func (c *clock) refill() {
	for _, s := range c.low {
		s.room.Signal()
	}
	clear(c.low)
	c.low = c.low[:0]
}

const (
	refillSlots  = int64(FrameDuration / clockGrain)
	refillAtOnce = 16
)

// finish has the sessions that have begun write, and returns what time it has
// become.
func (c *clock) finish(now time.Time) time.Time {
	sent := c.send()
	if sent {
		now = time.Now()
	}
	for i, s := range c.begun {
		var again bool
		if again, now = s.endTick(now, sent); again {
			c.place(s)
		}
		c.begun[i] = nil
	}
	c.begun = c.begun[:0]
	return now
}

// send sends what the sessions that have begun have gathered, if there are several.
func (c *clock) send() bool {
	if len(c.begun) < 2 {
		return false
	}
	for _, s := range c.begun {
		if s.gathered > 0 {
			c.conns = append(c.conns, s.conn)
		}
	}
	c.sender.Send(c.conns)
	clear(c.conns)
	c.conns = c.conns[:0]
	return true
}

// nextSlot returns when the next session is due, or the next refill, since start; with
// neither, when to look whether frames need still be gathered.
func (c *clock) nextSlot() time.Duration {
	if c.count == 0 && len(c.low) == 0 {
		if c.timekeeping.gathers() == 0 {
			return 1<<63 - 1
		}
		return time.Duration(c.timekeeping.look+1) * lookTime
	}
	for slot := c.cursor + 1; ; slot++ {
		if c.slots[slot%clockSlots] != nil || slot%refillSlots == 0 && len(c.low) > 0 {
			return time.Duration(slot) * clockGrain
		}
	}
}
