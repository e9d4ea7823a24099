package replicate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Delivery is what one write sends to one peer. Its regions live in an arena
// that it owns a share of.
type Delivery struct {
	Parts []Part
	Bytes int

	arena   *remotewrite.Buffer
	tracker *tracker
	since   time.Time
}

// Arena returns the buffer that the regions live in. Who keeps regions beyond
// the end of Node.Send retains it.
func (d *Delivery) Arena() *remotewrite.Buffer { return d.arena }

// finish reports the result of every part and gives the memory back. errs has
// one error for each part, or is nil for success.
func (d *Delivery) finish(errs []error) {
	for i := range d.Parts {
		var err error
		if errs != nil {
			err = errs[i]
		}
		d.tracker.report(d.Parts[i].sets, err)
	}
	if d.tracker.left.Add(-1) == 0 {
		d.tracker.held.Add(-d.tracker.size)
	}
	d.arena.Release()
}

// Node is a peer that stores what is sent to it, without routing it again.
type Node interface {
	// Send sends the parts of all deliveries, in order, in as few messages as
	// it can. It returns one error for each part of each delivery, nil when
	// everything was stored. The regions may be read until Send returns.
	Send(ctx context.Context, ds []*Delivery) [][]error
	// Merges says that the peer is known to take parts that hold several
	// replica numbers.
	Merges() bool
	// Close closes the connection.
	Close() error
}

// tracker counts the answers of one write.
type tracker struct {
	mu      sync.Mutex
	sets    []SetState
	open    int // sets without a verdict
	example [kinds]error
	done    chan struct{}

	// left is how many deliveries are not finished. Until then they hold an arena
	// of size bytes, which counts in held, the sum of all writes.
	left atomic.Int32
	size int64
	held *atomic.Int64
}

func newTracker(sets []SetState) *tracker {
	t := &tracker{sets: sets, open: len(sets), done: make(chan struct{})}
	if t.open == 0 {
		close(t.done)
	}
	return t
}

func (t *tracker) report(sets []int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kind := remotewrite.KindOf(err); err != nil && t.example[kind] == nil {
		t.example[kind] = err
	}
	for _, i := range sets {
		before := t.sets[i].Verdict()
		t.sets[i].Report(err)
		if before == Pending && t.sets[i].Verdict() != Pending {
			if t.open--; t.open == 0 {
				close(t.done)
			}
		}
	}
}

// result is the error of the whole write as far as it is known now: nil when
// every set is won.
func (t *tracker) result() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lost []remotewrite.Kind
	pending := 0
	for i := range t.sets {
		switch t.sets[i].Verdict() {
		case Lost:
			lost = append(lost, t.sets[i].Cause())
		case Pending:
			pending++
		}
	}
	if len(lost) == 0 && pending == 0 {
		return nil
	}
	if pending > 0 {
		return remotewrite.Errorf(remotewrite.Unavailable,
			"%d of %d replica sets did not answer in time", pending, len(t.sets))
	}
	kind := RequestCause(lost)
	if err := t.example[kind]; err != nil {
		return remotewrite.Errorf(kind, "write failed on a quorum of replicas for %d of %d replica sets: %w", len(lost), len(t.sets), err)
	}
	for _, err := range t.example {
		if err != nil {
			return remotewrite.Errorf(kind, "no quorum for %d of %d replica sets: %w", len(lost), len(t.sets), err)
		}
	}
	return remotewrite.Errorf(kind, "no quorum for %d of %d replica sets", len(lost), len(t.sets))
}
