package bucketblock

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Set is the storeapi.SeriesSet of one block. See Final for labels and order.
type Set struct {
	cancel  context.CancelFunc
	batches chan *batch // closed by the producer after err, warnings and stats are set
	place   placement

	recycler *Recycler // nil: memory is left to the collector
	left     []*batch  // batches before the current one, for the recycler

	cur    *batch
	pos    int  // in cur
	moved  bool // pos is the series that advance has returned, not the next one
	series storeapi.Series
	done   bool

	// For series with external labels, see nextInOrder.
	held  []heldSeries // sorted by the labels of the answer
	ahead bool         // the series at pos was read and is not held yet

	err      error
	warnings storeapi.Warnings
	stats    storeapi.Stats
}

// produce reads the block in a goroutine of its own.
func (s *Set) produce(ctx context.Context, r *reader) {
	defer close(s.batches)
	start := time.Now()
	defer r.started()
	err := r.run(ctx, func(b *batch) error {
		r.started()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		select {
		case s.batches <- b:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if cerr := context.Cause(ctx); err != nil && cerr != nil {
		err = cerr // not a failure of the block
	}
	r.stats.Duration = time.Since(start)
	s.err, s.stats = err, r.stats
	s.warnings = r.damage.warnings
	var failure *Error
	if len(r.damage.lost) > 0 || errors.As(err, &failure) && failure.Corrupt {
		r.b.env.Pages.Distrust(r.b.meta.ULID)
	}
	if r.q.Failed != nil && !r.damage.reported && errors.As(err, &failure) {
		var ws storeapi.Warnings
		ws, s.err = r.q.Failed(failure)
		s.warnings = append(s.warnings, ws...)
	}
	s.warnings = append(s.warnings, r.lostWarnings()...)
}

// advance moves to the next series in the order of the block; it waits while the
// next batch is being read.
func (s *Set) advance() bool {
	if s.moved {
		s.pos++
	}
	s.moved = true
	return s.fill()
}

// fill receives the next batch when the current one has no series at pos.
func (s *Set) fill() bool {
	for !s.done && (s.cur == nil || s.pos >= len(s.cur.items)) {
		s.free()
		b, ok := <-s.batches
		s.cur, s.pos, s.done = b, 0, !ok
	}
	return !s.done
}

// free gives up the current batch.
func (s *Set) free() {
	if s.recycler != nil && s.cur != nil {
		s.left = append(s.left, s.cur)
	} else {
		s.cur.release()
	}
	s.cur = nil
}

// Recycle makes the set return memory to other requests when r is flushed. It is called
// before Next, and only for a set that is Final. The bytes of chunks are then valid
// until the first flush after the next call of Next; r.Lend makes them stay longer.
func (s *Set) Recycle(r *Recycler) { s.recycler = r }

// retire gives the batches that no later series refers to to the recycler.
func (s *Set) retire() {
	if len(s.left) > 0 && len(s.held) == 0 {
		s.recycler.done = append(s.recycler.done, s.left...)
		clear(s.left)
		s.left = s.left[:0]
	}
}

// read returns the series at pos.
func (s *Set) read() storeapi.Series {
	it := s.cur.items[s.pos]
	out := storeapi.Series{Labels: it.lset}
	if s.cur.chunks != nil {
		out.Chunks = s.cur.chunks[it.lo:it.hi:it.hi]
	}
	return out
}

// Final waits for the first series and reports whether the label sets are those of
// the answer: with Query.External, and without Query.Drop. They are when no series
// of the block has one of these names, or of Query.SortWithout, itself; then the set is in the order of the
// answer. Otherwise label sets and order are those of the block.
func (s *Set) Final() bool {
	s.fill()
	return s.place.final
}

// Carries reports whether any series of the block has a label of that name, one of
// Query.Drop, Query.SortWithout or Query.External. It may be called after Final.
func (s *Set) Carries(name string) bool { return s.place.carried[name] }

// Next moves to the next series; it waits while the next batch is being read.
func (s *Set) Next() bool {
	s.retire()
	if s.Final() && len(s.place.ext) > 0 {
		if s.nextInOrder() {
			return true
		}
	} else if s.advance() {
		s.series = s.read()
		return true
	}
	s.retire()
	return false
}

// heldSeries is a series that was read and waits for those that may sort before it.
type heldSeries struct {
	storeapi.Series
	size int // number of its labels in the block
}

// nextInOrder is Next for series to which external labels were added. Of two series
// S and F, in this order in the block, F can only become the smaller one if it has
// all labels of S and more: then its further labels may sort before the external
// labels of S. All such F follow S without gap. So a held series is returned once
// the series read after it does not have all its labels; more than two are rarely
// held.
func (s *Set) nextInOrder() bool {
	for {
		s.ahead = s.ahead || s.advance()
		if len(s.held) > 0 && (!s.ahead || s.cur.items[s.pos].common < s.held[0].size) {
			s.series = s.held[0].Series
			s.held = slices.Delete(s.held, 0, 1)
			return true
		}
		if !s.ahead {
			return false
		}
		s.hold()
	}
}

// hold puts the series at pos among the held ones.
func (s *Set) hold() {
	next := heldSeries{Series: s.read(), size: s.cur.items[s.pos].size}
	i := len(s.held)
	for i > 0 && s.place.order.Compare(next.Labels, s.held[i-1].Labels) < 0 {
		i--
	}
	s.held = slices.Insert(s.held, i, next)
	s.ahead = false
}

// At returns the current series. Its chunks stay valid until Close, unless Recycle was
// called.
func (s *Set) At() storeapi.Series { return s.series }

// Err returns the error that ended the set early.
func (s *Set) Err() error {
	if !s.done {
		return nil
	}
	return s.err
}

// Warnings returns those of Query.Failed.
func (s *Set) Warnings() storeapi.Warnings {
	if !s.done {
		return nil
	}
	return s.warnings
}

// Stats counts the data that was read.
func (s *Set) Stats() storeapi.Stats {
	if !s.done {
		return storeapi.Stats{}
	}
	return s.stats
}

// Close stops the reading and waits for its end.
func (s *Set) Close() error {
	s.cancel()
	s.free()
	for _, b := range s.left {
		s.recycler.giveUp(b)
	}
	s.left = nil
	for b := range s.batches {
		b.release()
	}
	if !s.done {
		s.done, s.err, s.warnings = true, nil, nil
	}
	return nil
}
