package storeapi

// heldEntry is a series that waits for its turn. Its chunk slice is a copy.
type heldEntry struct {
	Series
	seq int
	// hidden is that of the rewriter.
	hidden string
}

// heldSeries is a binary heap in the order of the answer; equal label sets keep the
// order of arrival.
type heldSeries struct {
	order   Order
	entries []heldEntry
}

func (h *heldSeries) len() int { return len(h.entries) }

// first is the smallest one.
func (h *heldSeries) first() *heldEntry { return &h.entries[0] }

func (h *heldSeries) less(i, j int) bool {
	a, b := &h.entries[i], &h.entries[j]
	if c := h.order.Compare(a.Labels, b.Labels); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

func (h *heldSeries) push(e heldEntry) {
	h.entries = append(h.entries, e)
	a := h.entries
	for i := len(a) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		a[i], a[parent] = a[parent], a[i]
		i = parent
	}
}

func (h *heldSeries) pop() heldEntry {
	a := h.entries
	top, last := a[0], len(a)-1
	a[0] = a[last]
	a[last] = heldEntry{}
	a = a[:last]
	h.entries = a
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return top
		}
		a[i], a[child] = a[child], a[i]
		i = child
	}
}
