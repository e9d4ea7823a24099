package replicate

import (
	"context"
	"errors"
	"slices"
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

// Arena returns the buffer that the regions live in. A Node that keeps regions
// after Send returns retains it.
func (d *Delivery) Arena() *remotewrite.Buffer { return d.arena }

// finish reports the result of every part and releases the memory. errs has
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
	// everything was stored. down is the error when the peer cannot be reached, and
	// nil when it answers, even if it rejects parts. The regions may be read until
	// Send returns.
	Send(ctx context.Context, ds []*Delivery) (errs [][]error, down error)
	// Form is the form in which the peer is known to take series; it may change
	// while the program runs.
	Form() Form
	// Close closes the connection.
	Close() error
}

// tracker counts the answers of one write.
type tracker struct {
	mu      sync.Mutex
	sets    []setState
	open    int // sets without a verdict
	example [kinds]error
	done    chan struct{}
	// missing has, by set, the rejected items of each failed answer that counts
	// them.
	missing map[int][]remotewrite.Counts

	// left is how many deliveries are not finished. Until then they hold an arena
	// of size bytes, which counts in held, the sum of all writes.
	left atomic.Int32
	size int64
	held *atomic.Int64
}

func newTracker(sets []setState) *tracker {
	t := &tracker{sets: sets, open: len(sets), done: make(chan struct{})}
	if t.open == 0 {
		close(t.done)
	}
	return t
}

// report counts the answer of one node for the sets. The indexes of missing items
// are positions in sets.
func (t *tracker) report(sets []int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if kind := remotewrite.KindOf(err); t.example[kind] == nil {
			t.example[kind] = err
		}
		t.note(sets, err)
	}
	for _, i := range sets {
		before := t.sets[i].verdict()
		t.sets[i].report(err)
		if before == setPending && t.sets[i].verdict() != setPending {
			if t.open--; t.open == 0 {
				close(t.done)
			}
		}
	}
}

// reportLocal is report for the answer of the local storage, whose indexes of
// missing items are those of the series.
func (t *tracker) reportLocal(l *local, err error) {
	var w *remotewrite.WriteError
	if errors.As(err, &w) && w.Stored != nil {
		bySet := make([]remotewrite.Counts, len(l.sets))
		for _, m := range w.Missing {
			if i, ok := slices.BinarySearch(l.sets, l.set(m.Index)); ok {
				bySet[i] = bySet[i].Plus(m.Counts)
			}
		}
		err = &remotewrite.WriteError{Kind: w.Kind, Err: err, Stored: w.Stored, Missing: missingBySet(bySet)}
	}
	t.report(l.sets, err)
}

func missingBySet(bySet []remotewrite.Counts) (out []remotewrite.Missing) {
	for i, c := range bySet {
		if c != (remotewrite.Counts{}) {
			out = append(out, remotewrite.Missing{Index: i, Counts: c})
		}
	}
	return out
}

// note records the missing items of each set from a failed answer. The caller
// holds mu.
func (t *tracker) note(sets []int, err error) {
	var w *remotewrite.WriteError
	if !errors.As(err, &w) || w.Stored == nil {
		return
	}
	if t.missing == nil {
		t.missing = map[int][]remotewrite.Counts{}
	}
	next := 0
	for i, set := range sets {
		c := remotewrite.Counts{}
		for next < len(w.Missing) && w.Missing[next].Index <= i {
			if w.Missing[next].Index == i {
				c = c.Plus(w.Missing[next].Counts)
			}
			next++
		}
		t.missing[set] = append(t.missing[set], c)
	}
}

// result returns the error of the whole write at this time: nil when every set is
// won, otherwise a *remotewrite.WriteError that counts the items that a quorum has
// stored.
func (t *tracker) result(shares []*share) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.cause()
	if err == nil {
		return nil
	}
	stored := t.stored(shares)
	return &remotewrite.WriteError{Kind: remotewrite.KindOf(err), Err: err, Stored: &stored}
}

// cause returns the error of the lost or pending sets, without counts.
func (t *tracker) cause() error {
	var lost []remotewrite.Kind
	pending := 0
	for i := range t.sets {
		switch t.sets[i].verdict() {
		case setLost:
			lost = append(lost, t.sets[i].cause())
		case setPending:
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
	kind := requestCause(lost)
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
