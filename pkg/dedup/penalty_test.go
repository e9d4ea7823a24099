package dedup

import (
	"math"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// rules are the rules of penalty, written down one by one: every input is moved at
// every step.
type rules struct {
	leaf  *listIter // of a replica; nil for a pair
	by    float64
	count bool

	a, b       *rules
	useA       bool
	last       *rules
	penA, penB int64
	lastT      int64
	moved      chunkenc.ValueType
}

func newRules(replicas [][]sample, counter bool) *rules {
	left := &rules{leaf: newListIter(replicas[0]), count: counter}
	for _, r := range replicas[1:] {
		p := &rules{a: left, b: &rules{leaf: newListIter(r), count: counter}, useA: true, lastT: math.MinInt64}
		p.last = p.a
		p.a.next()
		p.b.next()
		left = p
	}
	return left
}

// cur is the current sample, nil at the end.
func (r *rules) cur() *sample {
	if r.leaf == nil {
		if r.moved == chunkenc.ValNone {
			return nil
		}
		return r.last.cur()
	}
	if r.leaf.typ() == chunkenc.ValNone {
		return nil
	}
	s := r.leaf.s[r.leaf.i]
	if r.by != 0 && s.h == nil {
		s.v += r.by
	}
	return &s
}

func (r *rules) seek(t int64) {
	for s := r.cur(); s != nil && s.t < t; s = r.cur() {
		r.next()
	}
}

func (r *rules) adjust(last float64) {
	if r.leaf != nil {
		if v := r.cur().v; r.count && last > v {
			r.by += last - v
		}
		return
	}
	for _, in := range []*rules{r.a, r.b} {
		if s := in.cur(); s != nil && s.h == nil {
			in.adjust(last)
		}
	}
}

func (r *rules) next() {
	if r.leaf != nil {
		r.leaf.Next()
		return
	}
	prevA := r.useA
	selected := r.b
	if r.useA {
		selected = r.a
	}
	var prev *sample
	if s := selected.cur(); s != nil && s.h == nil {
		prev = r.last.cur()
	}
	r.a.seek(r.lastT + 1 + r.penA)
	r.b.seek(r.lastT + 1 + r.penB)
	a, b := r.a.cur(), r.b.cur()
	r.moved = chunkenc.ValFloat
	switch {
	case a == nil && b == nil:
		r.useA, r.moved = false, chunkenc.ValNone
	case a == nil:
		r.useA, r.lastT, r.last, r.penB = false, b.t, r.b, 0
	case b == nil:
		r.useA, r.lastT, r.last, r.penA = true, a.t, r.a, 0
	default:
		r.useA = a.t <= b.t
		chosen, pen := b.t, int64(5000)
		if r.useA {
			chosen = a.t
		}
		if r.lastT != math.MinInt64 {
			pen = 2 * (chosen - r.lastT)
		}
		r.lastT = chosen
		if r.useA {
			r.penA, r.penB, r.last = 0, pen, r.a
		} else {
			r.penA, r.penB, r.last = pen, 0, r.b
		}
	}
	if r.useA != prevA && prev != nil {
		r.adjust(prev.v)
	}
}

// Penalty returns what the rules say, of floats and histograms, and of any number of
// replicas.
func TestPenalty_FollowsItsRules(t *testing.T) {
	changed := 0
	for seed := range int64(3000) {
		r := rand.New(rand.NewSource(seed))
		replicas := randomReplicas(r)
		if len(replicas) == 1 {
			continue
		}
		counter := seed%2 == 0
		mode := modeOf(counter)
		rules := newRules(replicas, counter)
		var want []sample
		for rules.next(); rules.cur() != nil; rules.next() {
			want = append(want, *rules.cur())
		}
		got := drain(FuncPenalty.Merge(lists(replicas), Options{Mode: mode}))
		require.Equal(t, want, got, "seed %d", seed)
		if len(want) > 0 && counter {
			changed++
		}
	}
	require.Greater(t, changed, 500)
}
