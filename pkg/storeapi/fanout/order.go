package fanout

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// orderWindow is how many series of a store are looked at before the first is
// passed on: about the first frame.
const orderWindow = 64

// maxHeld bounds the memory for one store of one request, in bytes: the answer, if
// it has to be sorted here, and otherwise one series, however often the store
// repeats it. The reader bounds the memory of series that are passed on.
const maxHeld = 256 << 20

// sizeOf is about the size of a series in memory, in bytes.
func sizeOf(s storeapi.Series) int {
	const series, chunk, aggregates = 64, 88, 200
	n := series + int(s.Labels.ByteSize()) + chunk*len(s.Chunks)
	for i := range s.Chunks {
		n += len(s.Chunks[i].Raw.Bytes)
		if a := s.Chunks[i].Aggr; a != nil {
			n += aggregates + len(a.Count.Bytes) + len(a.Sum.Bytes) + len(a.Min.Bytes) + len(a.Max.Bytes) + len(a.Counter.Bytes)
		}
	}
	return n
}

// errUnsorted ends the stream of a store that broke the order after series were
// passed on.
var errUnsorted = errors.New("series are not in order; the next answers of this store will be sorted here")

// arrange asks one store, with ask, and returns its answer in the order of the request, without
// the labels that it removes. An answer in another order is divided so that each part
// has the right one, see divide, or else read to its end and sorted. failed is the
// error of an answer that was read to its end.
func (a *asking) arrange(t target, r *storeapi.Request, ask func(*storeapi.Request) storeapi.SeriesSet) (set storeapi.SeriesSet, failed error) {
	order := a.r.Order()
	var o *orderedSet
	switch {
	case !t.info.SupportsWithoutReplicaLabels:
		// The promise of any order came into the protocol with this capability.
		o = a.sorted(ask(r), t.name, a.r.WithoutReplicaLabels)
	case len(a.r.SortWithout) > 0 && !t.info.SupportsSortWithout:
		if parts, ok := a.divide(&t); ok {
			set, failed = a.arrangeParts(&t, r, parts, ask)
			if !errors.Is(failed, errDisobeyed) {
				return set, failed
			}
			if err := set.Close(); err != nil {
				return storeapi.ErrSet(err), err
			}
		}
		o = a.sorted(ask(r), t.name, nil)
	default:
		o = a.store.inOrder(ask(r), order, t.name)
	}
	if o.all {
		failed = o.Err()
	}
	return o, failed
}

// inOrder passes on a stream that is in order, as all should be, one by one. A
// store whose first series are not in order, or that was seen to break the order
// before, is read to its end and sorted, it alone. One that breaks the order
// later for the first time fails at that point.
func (s *Store) inOrder(set storeapi.SeriesSet, order storeapi.Order, name string) *orderedSet {
	o := &orderedSet{SeriesSet: set, order: order, broken: func() { s.markUnsorted(name) }}
	if s.seen(s.unsorted, name) {
		o.readAll(nil)
		return o
	}
	for len(o.held) < orderWindow {
		if !set.Next() {
			o.all = true
			break
		}
		cur := clone(set.At())
		o.held = append(o.held, cur)
		if n := len(o.held); n > 1 && order.Compare(o.held[n-2].Labels, cur.Labels) > 0 {
			o.broken()
			o.readAll(nil)
			return o
		}
	}
	return o
}

func (s *Store) markUnsorted(name string) {
	if s.note(s.unsorted, name) {
		s.metrics.unsorted.Inc()
		s.cfg.Logger.Warn("store streams series out of order", "address", name)
	}
}

func clone(s storeapi.Series) storeapi.Series {
	s.Chunks = slices.Clone(s.Chunks)
	return s
}

// orderedSet first returns the held series, then the rest of the stream.
type orderedSet struct {
	storeapi.SeriesSet
	order  storeapi.Order
	broken func()

	held []storeapi.Series
	next int
	// all says that held is all there is.
	all bool
	cur storeapi.Series
	err error
	// same is the size of all series with the labels of cur.
	same int
	// holding counts the held series of an answer that is read to its end; it may be
	// nil.
	holding storeapi.Holding
	// check, if not nil, is called for each series of such an answer; its error ends
	// the answer.
	check func(labels.Labels) error
}

// sorted reads the whole set, removes the labels named in drop, and sorts.
func (a *asking) sorted(set storeapi.SeriesSet, name string, drop []string) *orderedSet {
	o := &orderedSet{SeriesSet: set, order: a.r.Order(), holding: a.holding(name)}
	o.readAll(drop)
	return o
}

// holding counts what is held of the named store; nil when the request has no account.
func (a *asking) holding(name string) storeapi.Holding {
	if a.r.Account == nil {
		return nil
	}
	return a.r.Account.Hold(a.inner, name)
}

// refusedError is the error of the account of the request, or of the bound of what is
// held for it. It is no failure of the store, and fails the request.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// keep adds a series to the held ones.
func (o *orderedSet) keep(s storeapi.Series) error {
	if o.check != nil {
		if err := o.check(s.Labels); err != nil {
			return err
		}
	}
	if o.holding != nil {
		if err := o.holding.Add(s); err != nil {
			o.letGo(len(o.held) - o.next)
			o.held = nil // the request has failed
			return refusedError{err}
		}
	}
	o.held = append(o.held, s)
	return nil
}

// letGo removes the next n held series from the count.
func (o *orderedSet) letGo(n int) {
	if o.holding == nil {
		return
	}
	for _, s := range o.held[o.next : o.next+n] {
		o.holding.Remove(s)
	}
}

// Close implements storeapi.SeriesSet.
func (o *orderedSet) Close() error {
	o.letGo(len(o.held) - o.next)
	o.held, o.next = nil, 0
	return o.SeriesSet.Close()
}

// readAll takes the rest of the stream and sorts.
func (o *orderedSet) readAll(drop []string) {
	b := labels.NewBuilder(labels.EmptyLabels())
	size := 0
	for o.SeriesSet.Next() {
		cur := clone(o.SeriesSet.At())
		if size += sizeOf(cur); size > maxHeld {
			o.err = fmt.Errorf("%w: the answer has to be sorted here, and has more than %d bytes; ask for fewer series, or update the store so that it sorts", limit.ErrExceeded, maxHeld)
			if o.holding != nil {
				o.err = refusedError{o.err}
			}
			break
		}
		if len(drop) > 0 {
			b.Reset(cur.Labels)
			cur.Labels = b.Del(drop...).Labels()
		}
		if o.err = o.keep(cur); o.err != nil {
			break
		}
	}
	o.all = true
	slices.SortStableFunc(o.held, func(a, b storeapi.Series) int { return o.order.Compare(a.Labels, b.Labels) })
}

// Next returns the held series, which are sorted, and then reads on in the order of
// the store. It fails when the order breaks, which broken records for the next
// request, and when the series with equal labels exceed maxHeld bytes.
func (o *orderedSet) Next() bool {
	if o.next < len(o.held) {
		o.letGo(1)
		o.cur = o.held[o.next]
		o.held[o.next] = storeapi.Series{}
		o.next++
		return true
	}
	if o.all || o.err != nil {
		return false
	}
	o.held, o.next = nil, 0
	if !o.SeriesSet.Next() {
		return false
	}
	cur := o.SeriesSet.At()
	order := o.order.Compare(o.cur.Labels, cur.Labels)
	if order != 0 {
		o.same = 0
	}
	if o.same += sizeOf(cur); o.same > maxHeld {
		o.err = fmt.Errorf("%w: series %s has more than %d bytes", limit.ErrExceeded, cur.Labels, maxHeld)
		return false
	}
	if order > 0 {
		o.broken()
		o.err = fmt.Errorf("%s after %s: %w", cur.Labels, o.cur.Labels, errUnsorted)
		return false
	}
	o.cur = cur
	return true
}

func (o *orderedSet) At() storeapi.Series { return o.cur }

func (o *orderedSet) Err() error {
	if o.err != nil {
		return o.err
	}
	return o.SeriesSet.Err()
}
