package blockcheck

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// The rule of docs/decisions/0005-coverage.md, on whole columns instead of the windows of
// decoded chunks that package dedup moves over a series.
const (
	// steps is how many steps around a hole tell the interval of a replica.
	steps = 6
	// unknownInterval is that of a replica of a single sample, in milliseconds.
	unknownInterval = 60_000
	longestInterval = 1 << 45
	// lookBehind is how far a merge of histograms, or of chunks of one replica that
	// overlap, looks back for steps, in milliseconds.
	lookBehind = 15 * 60_000

	openStart = math.MinInt64
	openEnd   = math.MaxInt64
)

// replicas chooses the samples of replicas, and compares each one with the result.
type replicas struct {
	columns []column
	result  *column
	// hints are intervals by the headers of the chunks, for replicas of one sample;
	// shortest the shortest steps, which are no longer than any interval.
	hints, shortest []int64
	// at is the first sample of each replica that was not passed, next that of the result.
	at   []int
	next int
	// stale says that the sample chosen last is a stale marker.
	stale bool
}

// hole is a time without samples of the replicas before rep: between those at lo and hi,
// of a replica with an interval that has stopped there if gone is set.
type hole struct {
	rep      int
	lo, hi   int64
	interval int64
	gone     bool
}

// fill chooses the samples of a hole.
func (r *replicas) fill(h hole) error {
	c, last := &r.columns[h.rep], h.rep+1 == len(r.columns)
	at := &r.at[h.rep]
	if h.lo != openStart {
		from := min(h.lo, math.MaxInt64-h.interval) + h.interval/2
		for *at < len(c.T) && c.T[*at] <= from {
			*at++
		}
	}
	until := int64(openEnd)
	if h.hi != openEnd {
		until = max(h.hi, math.MinInt64+h.interval) - h.interval/2
	}
	prev, own, stopped, filled := h.lo, false, false, -1
	for *at < len(c.T) && c.T[*at] < until {
		k := *at
		t, stale := c.T[k], c.stale(k)
		if stale && (r.stale || r.continues(h, t)) {
			*at++
			stopped = true
			continue
		}
		if !last && filled != k && (stopped || prev == openStart || r.isHole(h, k, t-prev)) {
			filled = k
			if err := r.fill(hole{h.rep + 1, prev, t, max(h.interval, r.interval(h.rep, k)), h.gone || stopped}); err != nil {
				return err
			}
			continue
		}
		if err := r.choose(c, k, h.rep); err != nil {
			return err
		}
		*at++
		prev, own, stopped = t, true, stale
	}
	if last {
		return nil
	}
	rest := hole{h.rep + 1, prev, h.hi, h.interval, h.gone || stopped}
	if own {
		if !stopped && h.hi != openEnd && !r.isHole(h, *at, h.hi-prev) {
			return nil
		}
		rest.interval = max(h.interval, r.interval(h.rep, *at))
	}
	return r.fill(rest)
}

// isHole says whether a step to sample k of the replica of h is a hole of it.
func (r *replicas) isHole(h hole, k int, step int64) bool {
	if step >= 0 && step <= oneAndAHalf(max(h.interval, r.shortest[h.rep])) {
		return false
	}
	return step < 0 || step > oneAndAHalf(h.interval) && step > oneAndAHalf(r.interval(h.rep, k))
}

func oneAndAHalf(interval int64) int64 { return interval + interval/2 }

// continues says whether another replica than that of h has a sample soon after the stale
// marker at t.
func (r *replicas) continues(h hole, t int64) bool {
	if h.hi != openEnd && !h.gone && h.hi-t <= oneAndAHalf(h.interval) {
		return true
	}
	for i := h.rep + 1; i < len(r.columns); i++ {
		c := &r.columns[i]
		k := sort.Search(len(c.T), func(k int) bool { return c.T[k] > t })
		if k < len(c.T) && !c.stale(k) && !(k > 0 && c.stale(k-1)) && c.T[k]-t <= oneAndAHalf(r.interval(i, k)) {
			return true
		}
	}
	return false
}

// interval is that of a replica at the hole before its sample k: the second shortest of
// the six steps after it, or before it near the end.
func (r *replicas) interval(rep, k int) int64 {
	ts := r.columns[rep].T
	first, second, n := int64(math.MaxInt64), int64(math.MaxInt64), 0
	see := func(step int64) {
		n++
		if step < first {
			first, second = step, first
		} else {
			second = min(second, step)
		}
	}
	for i := k + 1; i < len(ts) && n < steps; i++ {
		see(ts[i] - ts[i-1])
	}
	for i := min(k, len(ts)) - 1; i > 0 && n < steps; i-- {
		see(ts[i] - ts[i-1])
	}
	switch {
	case n == 0 && r.hints[rep] > 0:
		first = r.hints[rep]
	case n == 0:
		first = unknownInterval
	case n > 1:
		first = second
	}
	return min(max(first, 1), longestInterval)
}

// choose compares sample k of a replica with the next one of the result.
func (r *replicas) choose(c *column, k, rep int) error {
	res := r.result
	switch {
	case r.next == len(res.T) || res.T[r.next] > c.T[k]:
		return mismatch("the %s of replica %d is missing", c.describe(k), rep+1)
	case res.T[r.next] < c.T[k]:
		return mismatch("the result has the %s where replica %d has the %s", res.describe(r.next), rep+1, c.describe(k))
	case math.Float64bits(res.V[r.next]) != math.Float64bits(c.V[k]):
		return mismatch("the result has the %s, replica %d the %s", res.describe(r.next), rep+1, c.describe(k))
	}
	r.next, r.stale = r.next+1, c.stale(k)
	return nil
}

// coverage demands the samples that the rule chooses, and no others. Where the sources of
// a replica have different values, or their interval cannot be known, it demands what
// coarseCoverage does.
func (w *Worker) coverage(in []Input) error {
	for i := range w.columns {
		if !w.columns[i].unite() {
			return w.coarseCoverage()
		}
	}
	if !w.sequential(in) {
		for i := range w.columns {
			if !w.columns[i].steady() {
				return w.coarseCoverage()
			}
		}
	}
	n := len(w.columns)
	r := replicas{columns: w.columns, result: &w.result, at: make([]int, n), hints: make([]int64, n), shortest: make([]int64, n)}
	for i := range w.columns {
		r.hints[i], r.shortest[i] = w.hint(in, w.columns[i].source), w.columns[i].shortest()
	}
	if err := r.fill(hole{lo: openStart, hi: openEnd}); err != nil {
		return err
	}
	if r.next < len(w.result.T) {
		return mismatch("the result has the %s, which no replica has there", w.result.describe(r.next))
	}
	return nil
}

// unite removes samples with equal times and values. It returns false where values of
// equal times differ.
func (c *column) unite() bool {
	k := 0
	for i := range c.T {
		if i > 0 && c.T[i] == c.T[i-1] {
			if c.differs(i) {
				return false
			}
			continue
		}
		c.Swap(k, i)
		k++
	}
	c.T, c.V = c.T[:k], c.V[:k]
	if c.form != nil {
		c.form = c.form[:k]
	}
	return true
}

// shortest is the shortest step between two samples, 0 without one.
func (c *column) shortest() int64 {
	if len(c.T) < 2 {
		return 0
	}
	step := int64(longestInterval)
	for i := 1; i < len(c.T); i++ {
		step = min(step, c.T[i]-c.T[i-1])
	}
	return step
}

// steady says whether the steps that tell the interval lie within lookBehind everywhere.
func (c *column) steady() bool {
	for i := steps + 1; i < len(c.T); i++ {
		if c.T[i]-c.T[i-steps-1] > lookBehind {
			return false
		}
	}
	return true
}

// inOrder sorts the chunks of the sources as a merge does, and removes copies of the chunk
// before: those of other replicas, too, so that these have holes there.
func (w *Worker) inOrder(in []Input) []Input {
	w.sorted = append(w.sorted[:0], in...)
	slices.SortStableFunc(w.sorted, func(a, b Input) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), cmp.Compare(a.Source, b.Source))
	})
	w.sorted = slices.CompactFunc(w.sorted, func(a, b Input) bool {
		return a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && a.Encoding == b.Encoding && bytes.Equal(a.Data, b.Data)
	})
	return w.sorted
}

// sequential says whether a merge looks back for steps by chunks: there are floats only,
// and the chunks of no replica overlap.
func (w *Worker) sequential(in []Input) bool {
	for i := range w.columns {
		last := int64(math.MinInt64)
		for k := range in {
			c := &in[k]
			if c.Source != w.columns[i].source {
				continue
			}
			if c.Encoding != chunkenc.EncXOR || c.MinTime <= last {
				return false
			}
			last = c.MaxTime
		}
	}
	return true
}

// hint is the interval of a replica by the headers of its chunks.
func (w *Worker) hint(in []Input, source int) int64 {
	own := make([]*Chunk, 0, 8)
	for i := 0; i < len(in) && len(own) < cap(own); i++ {
		if in[i].Source == source {
			own = append(own, &in[i].Chunk)
		}
	}
	return dedup.Interval(len(own), func(i int) (mint, maxt int64, samples int) {
		return own[i].MinTime, own[i].MaxTime, int(binary.BigEndian.Uint16(own[i].Data))
	})
}
