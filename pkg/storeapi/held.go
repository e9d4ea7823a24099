package storeapi

import "github.com/prometheus/prometheus/model/labels"

// heldEntry is a series that waits for its turn. Its chunk slice is a copy.
type heldEntry struct {
	Series
	seq int
	// hidden is that of the rewriter.
	hidden string
}

// heldSeries is a binary heap by label set; equal ones keep the order of
// arrival.
type heldSeries []heldEntry

func (h heldSeries) less(i, j int) bool {
	if c := labels.Compare(h[i].Labels, h[j].Labels); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}

func (h *heldSeries) push(e heldEntry) {
	*h = append(*h, e)
	a := *h
	for i := len(a) - 1; i > 0; {
		parent := (i - 1) / 2
		if !a.less(i, parent) {
			return
		}
		a[i], a[parent] = a[parent], a[i]
		i = parent
	}
}

func (h *heldSeries) pop() heldEntry {
	a := *h
	top, last := a[0], len(a)-1
	a[0] = a[last]
	a[last] = heldEntry{}
	a = a[:last]
	*h = a
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && a.less(child+1, child) {
			child++
		}
		if !a.less(child, i) {
			return top
		}
		a[i], a[child] = a[child], a[i]
		i = child
	}
}
