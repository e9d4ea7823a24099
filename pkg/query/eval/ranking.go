package eval

import (
	"container/heap"
	"context"
	"math"
	"sort"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"
)

// ranking is topk or bottomk. It keeps the k best values of each group and step.
type ranking struct {
	*aggregation
	reverse bool // bottomk

	// heaps has one heap for each step of each group.
	heaps [][]ranked
	// heap is the one that is being changed.
	heap rankHeap
	// kept is the number of values in the heaps, charged the one that is charged.
	kept, charged int64
	series        []labels.Labels
	done          bool
	// order has the series to return, in order; at one step that is the order of
	// their values, otherwise the one of the input.
	order []int32
	// points are the values of the series over all steps.
	points map[int32][]rankedPoint
}

// ranked is a value that may be among the best.
type ranked struct {
	v      float64
	series int32
}

type rankedPoint struct {
	step int32
	v    float64
}

// rankHeap has the worst value at the top. NaN is the worst.
type rankHeap struct {
	items   []ranked
	reverse bool
}

func (h *rankHeap) Len() int { return len(h.items) }

func (h *rankHeap) Less(i, j int) bool {
	vi, vj := h.items[i].v, h.items[j].v
	switch {
	case math.IsNaN(vi):
		return true
	case h.reverse:
		return vi > vj
	default:
		return vi < vj
	}
}

func (h *rankHeap) Swap(i, j int) { h.items[i], h.items[j] = h.items[j], h.items[i] }

// Push and Pop are part of heap.Interface, and are not used.
func (h *rankHeap) Push(any) {}
func (h *rankHeap) Pop() any { return nil }

func (t *ranking) next(ctx context.Context) (*row, error) {
	if !t.done {
		if err := t.rank(ctx); err != nil {
			return nil, err
		}
		t.done = true
	}
	if len(t.order) == 0 {
		return nil, nil
	}
	s := t.order[0]
	t.order = t.order[1:]
	r, err := t.sc.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	r.labels = t.series[s]
	for _, p := range t.points[s] {
		r.set(int(p.step), p.v)
	}
	return r, nil
}

// rank consumes all series.
func (t *ranking) rank(ctx context.Context) error {
	// Where a series that is not ranked has a value makes no difference.
	lo, hi, anyNaN := t.bounds()
	none := hi < 1
	if !none && (anyNaN || lo <= math.MinInt64 || hi >= math.MaxInt64-1023) {
		return unsupported("parameter of %s out of range", t.plan.e.Op)
	}
	for {
		r, err := t.op.next(ctx)
		if err != nil {
			return err
		}
		if r == nil {
			break
		}
		if !none {
			if err := t.rankRow(ctx, r); err != nil {
				return err
			}
		}
		r.release()
	}
	return t.collect()
}

// rankRow offers the values of a series to the heaps of its group.
func (t *ranking) rankRow(ctx context.Context, r *row) error {
	g := t.grouper.group(r.labels)
	if (g+1)*t.sc.grid.steps > len(t.heaps) {
		if err := t.addGroup(ctx); err != nil {
			return err
		}
	}
	heaps := t.heaps[g*t.sc.grid.steps:]
	series := int32(len(t.series))
	added := int64(0)
	for i, ok := range r.has {
		if !ok {
			continue
		}
		k := int64(t.params[i])
		if k < 1 {
			continue
		}
		if r.histogram(i) != nil {
			t.w.annos.Add(annotations.NewHistogramIgnoredInAggregationInfo(t.plan.e.Op.String(), t.plan.e.PosRange))
			continue
		}
		before := len(heaps[i])
		if t.offer(&heaps[i], k, ranked{r.v[i], series}) {
			added++
		}
		t.kept += int64(len(heaps[i]) - before)
	}
	if added == 0 {
		return nil
	}
	t.series = append(t.series, r.labels)
	const label, value = 32, 16
	grown := t.kept - t.charged
	t.charged = t.kept
	t.sc.hold(grown)
	return t.sc.charge(ctx, label+grown*value)
}

// addGroup adds the empty heaps of a group. Small ones get their memory at once.
func (t *ranking) addGroup(ctx context.Context) error {
	const most, header, value = 16, 24, 16
	n := t.sc.grid.steps
	_, hi, _ := t.bounds()
	size := min(int(min(hi, most)), most)
	if err := t.sc.charge(ctx, int64(n)*int64(header+size*value)); err != nil {
		return err
	}
	memory := make([]ranked, n*size)
	for i := range n {
		t.heaps = append(t.heaps, memory[i*size:i*size:(i+1)*size])
	}
	return nil
}

// offer adds a value to a heap of k values if it is better than the worst there. It
// returns whether the value is in the heap.
func (t *ranking) offer(items *[]ranked, k int64, x ranked) bool {
	h := &t.heap
	h.items, h.reverse = *items, t.reverse
	if int64(len(h.items)) < k {
		h.items = append(h.items, x)
		heap.Fix(h, len(h.items)-1)
		*items = h.items
		return true
	}
	worst := h.items[0].v
	better := worst < x.v
	if t.reverse {
		better = worst > x.v
	}
	if !better && (!math.IsNaN(worst) || math.IsNaN(x.v)) {
		return false
	}
	h.items[0] = x
	if k > 1 {
		heap.Fix(h, 0)
	}
	return true
}

// collect turns the heaps into the values of the series.
func (t *ranking) collect() error {
	const mapWork = 16 // a value that is put into a map, in those that are added
	steps := t.sc.grid.steps
	t.points = map[int32][]rankedPoint{}
	for i := range t.heaps {
		h := &rankHeap{items: t.heaps[i], reverse: t.reverse}
		if steps == 1 && len(h.items) > 1 {
			sort.Sort(sort.Reverse(h))
		}
		for _, x := range h.items {
			if t.points[x.series] == nil && steps == 1 {
				t.order = append(t.order, x.series)
			}
			t.points[x.series] = append(t.points[x.series], rankedPoint{int32(i % steps), x.v})
		}
		t.heaps[i] = nil
		if t.w.ended(mapWork * (1 + len(h.items))) {
			return t.w.err
		}
	}
	if steps == 1 {
		return nil
	}
	for s := range t.series {
		if t.points[int32(s)] != nil {
			t.order = append(t.order, int32(s))
		}
	}
	return nil
}
