package storeapi

import (
	"errors"

	"github.com/prometheus/prometheus/model/labels"
)

// Merge joins sets that are in the given order into one. Equal label sets become one series, be they
// in different sets or neighbours in one; its chunks are in the order of their
// times, and of chunks with the same content only one stays.
//
// It holds at most one series per set. The first error of any set ends the
// result. Merge owns the sets: closing the result closes them all.
func Merge(sets []SeriesSet, order Order) SeriesSet {
	return &mergeSet{sets: sets, order: order}
}

type mergeSet struct {
	sets  []SeriesSet
	order Order
	tree  *loserTree
	err   error
	cur   Series
	buf   []Chunk
	done  bool
}

func (m *mergeSet) Next() bool {
	if m.done {
		return false
	}
	if m.tree == nil && !m.start() {
		return false
	}
	i, ok := m.tree.winner()
	if !ok {
		m.done = true
		return false
	}
	lset := m.tree.keys[i]
	m.buf = m.buf[:0]
	for same := true; ok && same; same = m.tree.same {
		m.buf = append(m.buf, m.sets[i].At().Chunks...)
		if !m.advance(i) {
			return false
		}
		i, ok = m.tree.winner()
	}
	m.buf = joinChunks(m.buf)
	m.cur = Series{Labels: lset, Chunks: m.buf}
	return true
}

// start reads the first series of every set.
func (m *mergeSet) start() bool {
	keys := make([]labels.Labels, len(m.sets))
	alive := make([]bool, len(m.sets))
	for i, s := range m.sets {
		if alive[i] = s.Next(); alive[i] {
			keys[i] = s.At().Labels
		} else if !m.finished(s) {
			return false
		}
	}
	m.tree = newLoserTree(keys, alive, m.order)
	return true
}

// advance moves set i, the winner, to its next series.
func (m *mergeSet) advance(i int) bool {
	if s := m.sets[i]; s.Next() {
		m.tree.replace(s.At().Labels, true)
	} else if !m.finished(s) {
		return false
	} else {
		m.tree.replace(labels.EmptyLabels(), false)
	}
	return true
}

// finished reports whether a set that returned no series ended properly; if not,
// the whole merge is over.
func (m *mergeSet) finished(s SeriesSet) bool {
	m.err = s.Err()
	m.done = m.err != nil
	return !m.done
}

func (m *mergeSet) At() Series { return m.cur }
func (m *mergeSet) Err() error { return m.err }

func (m *mergeSet) Warnings() Warnings {
	var ws Warnings
	for _, s := range m.sets {
		ws = append(ws, s.Warnings()...)
	}
	return ws
}

func (m *mergeSet) Stats() Stats {
	var st Stats
	for _, s := range m.sets {
		st.Add(s.Stats())
	}
	return st
}

func (m *mergeSet) Close() error {
	var errs []error
	for _, s := range m.sets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
