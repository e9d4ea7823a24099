package eval

import (
	"context"
	"github.com/prometheus/prometheus/model/labels"
)

// stepSet is a set of steps. The zero value is empty.
type stepSet struct {
	first uint64
	rest  []uint64
}

// stepSetBytes is the memory of a set of steps of a grid.
func stepSetBytes(steps int) int64 {
	return 32 + int64(max(0, (steps-1)/64))*8
}

func (s *stepSet) word(i int) *uint64 {
	if i == 0 {
		return &s.first
	}
	return &s.rest[i-1]
}

// reserve makes room for all steps of a grid.
func (s *stepSet) reserve(steps int) {
	if n := (steps - 1) / 64; len(s.rest) < n {
		s.rest = append(s.rest, make([]uint64, n-len(s.rest))...)
	}
}

func (s *stepSet) has(i int) bool {
	w := i / 64
	if w > len(s.rest) {
		return false
	}
	return *s.word(w)>>(i%64)&1 != 0
}

// add adds one step. The set has room for it.
func (s *stepSet) add(i int) { *s.word(i / 64) |= 1 << (i % 64) }

func (s *stepSet) empty() bool {
	if s.first != 0 {
		return false
	}
	for _, w := range s.rest {
		if w != 0 {
			return false
		}
	}
	return true
}

// addAll adds the steps at which has is true, and those of both sets to dup, which
// may be nil. It returns false when a step was there before.
func (s *stepSet) addAll(has []bool, dup *stepSet) bool {
	s.reserve(len(has))
	disjoint := true
	for w := 0; w*64 < len(has); w++ {
		var m uint64
		for i, ok := range has[w*64 : min(len(has), w*64+64)] {
			if ok {
				m |= 1 << i
			}
		}
		p := s.word(w)
		if both := *p & m; both != 0 {
			disjoint = false
			if dup != nil {
				dup.reserve(len(has))
				*dup.word(w) |= both
			}
		}
		*p |= m
	}
	return disjoint
}

// any says whether has is true at one step of the set.
func (s *stepSet) any(has []bool) bool {
	if s.empty() {
		return false
	}
	for i, ok := range has {
		if ok && s.has(i) {
			return true
		}
	}
	return false
}

// parts checks that the rows of a result with equal labels have no step in common:
// they are parts of one series then. It compares hashes, so it may refuse rows
// whose labels differ.
type parts struct {
	seen map[uint64]*stepSet
	// split says that there were rows with equal labels.
	split bool
}

// entryBytes is the memory of one entry of a map from a hash to a pointer.
const entryBytes = 40

// admit is called for each row of the result, has says at which steps there is a
// sample. The error is ErrUnsupported when a step has two samples with equal labels,
// which Prometheus's engine refuses.
func (p *parts) admit(ctx context.Context, sc *scope, ls labels.Labels, has []bool) error {
	h := ls.Hash()
	s := p.seen[h]
	if s == nil {
		if err := sc.charge(ctx, entryBytes+stepSetBytes(len(has))); err != nil {
			return err
		}
		if p.seen == nil {
			p.seen = map[uint64]*stepSet{}
		}
		s = &stepSet{}
		p.seen[h] = s
	} else {
		p.split = true
	}
	if !s.addAll(has, nil) {
		return unsupported("two samples with labels %s at one time", ls)
	}
	return nil
}
