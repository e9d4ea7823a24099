package dedup

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

const (
	// unknownInterval is assumed, in milliseconds, for a replica with too few samples
	// to learn its interval from.
	unknownInterval = 60_000
	// neighbours is how many steps around a gap tell the interval of a replica.
	neighbours = 6
	// kept is how many passed samples a window holds for the steps before a gap.
	kept = neighbours + 2
	// fullWindow is how many passed samples make a window drop them.
	fullWindow = 512
	// maxInterval, in milliseconds, keeps sums of times from overflowing.
	maxInterval = 1 << 45
)

// hist is a histogram of a window, of integers or of floats.
type hist struct {
	i *histogram.Histogram
	f *histogram.FloatHistogram
}

// float is the histogram as one of floats.
func (p *hist) float() *histogram.FloatHistogram {
	if p.f == nil {
		p.f = p.i.ToFloat(nil)
	}
	return p.f
}

// batch is a part of a window that came from one chunk, or was read at once.
type batch struct {
	// start is its position in the window, number that among all batches of the
	// feed.
	start, number int
	shape
}

// track is a replica as a window of decoded samples that moves over its time. Only
// reading forward decodes: positions stay the same until trim.
type track struct {
	feed feed
	// chunks is the feed of a replica of chunks. A track is not copied then.
	chunks chunkFeed
	// floor is the shortest interval to assume, hint that of a replica with too few
	// samples.
	floor, hint int64

	t []int64
	v []float64
	// h is nil when all samples are floats; the sample k is a histogram where h[k] has
	// one.
	h []hist
	// st are start times; nil when there are none.
	st      []int64
	batches []batch
	// at is the first sample that was not passed.
	at    int
	ended bool
	// cut says that samples before the window were left out.
	cut bool
}

// reset empties the track. The caller sets its feed.
func (tr *track) reset(floor, hint int64) {
	*tr = track{
		floor: min(floor, maxInterval), hint: min(hint, maxInterval),
		t: tr.t[:0], v: tr.v[:0], batches: tr.batches[:0],
	}
}

// load decodes the next batch that has samples; false is the end or an error.
func (tr *track) load() bool {
	for !tr.ended {
		start := len(tr.t)
		number, s, ok := tr.feed.next(tr)
		if !ok {
			tr.ended = true
			return false
		}
		if len(tr.t) == start {
			continue
		}
		tr.batches = append(tr.batches, batch{start: start, number: number, shape: s})
		return true
	}
	return false
}

// trim drops samples that were passed long ago. It moves the positions.
func (tr *track) trim() {
	if tr.at < fullWindow {
		return
	}
	cut := tr.at - kept
	b := len(tr.batches) - 1
	for b > 0 && tr.batches[b].start > cut {
		b--
	}
	tr.batches = slices.Delete(tr.batches, 0, b)
	for i := range tr.batches {
		tr.batches[i].start = max(0, tr.batches[i].start-cut)
	}
	tr.t = tr.t[:copy(tr.t, tr.t[cut:])]
	tr.v = tr.v[:copy(tr.v, tr.v[cut:])]
	if tr.h != nil {
		tr.h = slices.Delete(tr.h, 0, cut)
	}
	if tr.st != nil {
		tr.st = slices.Delete(tr.st, 0, cut)
	}
	tr.at -= cut
}

// skip leaves out batches that nothing after t needs: with behind, the last sample at
// or before t is kept.
func (tr *track) skip(t int64, behind bool) {
	if n := len(tr.t); tr.ended || n > 0 && tr.t[n-1] >= t {
		return
	}
	if tr.feed.skip(t, behind) {
		// The samples of the window do not adjoin those to come.
		tr.t, tr.v, tr.h, tr.st, tr.batches, tr.at = tr.t[:0], tr.v[:0], nil, nil, tr.batches[:0], 0
		tr.cut = true
	}
}

// pass moves to the first sample after t and reports whether there is one.
func (tr *track) pass(t int64) bool {
	for {
		if n := len(tr.t); tr.at < n {
			if tr.t[n-1] > t {
				k, _ := slices.BinarySearch(tr.t[tr.at:], t+1)
				tr.at += k
				return true
			}
			tr.at = n
		}
		if !tr.load() {
			return false
		}
	}
}

// after returns the first sample at or after t without passing any, or -1.
func (tr *track) after(t int64) int {
	for {
		if n := len(tr.t); n > 0 && tr.t[n-1] >= t {
			k, _ := slices.BinarySearch(tr.t, t)
			return k
		}
		if !tr.load() {
			return -1
		}
	}
}

// end is where the batch of sample k ends, and number the number of that batch.
func (tr *track) batchOf(k int) (b batch, end int) {
	end = len(tr.t)
	i := len(tr.batches) - 1
	for ; i > 0 && tr.batches[i].start > k; i-- {
		end = tr.batches[i].start
	}
	return tr.batches[i], end
}

// interval learns the interval of the replica around the gap before sample k from
// the steps after the gap, and from those before it when these are too few: the
// second shortest, so that neither gaps nor one short step matter. It depends on
// these few samples only, so a query that starts elsewhere learns the same.
func (tr *track) interval(k int) int64 {
	for len(tr.t) <= k+neighbours && tr.load() {
	}
	first, second, n := int64(math.MaxInt64), int64(math.MaxInt64), 0
	see := func(step int64) {
		n++
		if step < first {
			first, second = step, first
		} else if step < second {
			second = step
		}
	}
	for i := k + 1; i < len(tr.t) && n < neighbours; i++ {
		see(tr.t[i] - tr.t[i-1])
	}
	for i := min(k, len(tr.t)) - 1; i > 0 && n < neighbours; i-- {
		see(tr.t[i] - tr.t[i-1])
	}
	if n < neighbours {
		old := tr.older()
		if len(tr.t) > 0 && k > 0 {
			old = append(old, tr.t[0])
		}
		for i := len(old) - 1; i > 0 && n < neighbours; i-- {
			see(old[i] - old[i-1])
		}
	}
	switch {
	case n == 0:
		first = tr.assumed()
	case n > 1:
		first = second
	}
	return min(max(first, tr.floor, 1), maxInterval)
}

// assumed is the interval of a replica without any step to learn it from.
func (tr *track) assumed() int64 {
	if tr.hint > 0 {
		return tr.hint
	}
	return unknownInterval
}

// older returns the times of a few samples before the window that the feed left out.
func (tr *track) older() []int64 {
	if !tr.cut {
		return nil
	}
	return tr.feed.before()
}

// longest is the longest step that is no gap for an interval.
func longest(interval int64) int64 { return interval + interval/2 }

// stale says whether sample k is a stale marker.
func (tr *track) stale(k int) bool {
	if tr.h == nil || tr.h[k] == (hist{}) {
		return value.IsStaleNaN(tr.v[k])
	}
	if h := tr.h[k].i; h != nil {
		return value.IsStaleNaN(h.Sum)
	}
	return value.IsStaleNaN(tr.h[k].f.Sum)
}

// run returns where the samples from k on that follow each other without a gap or a
// stale marker end: within the batch of k, and before the time until. gaps says that
// gaps matter.
func (tr *track) run(k int, until int64, gaps bool) int {
	b, end := tr.batchOf(k)
	if tr.h == nil && b.shortest > 0 && !b.stale && tr.t[end-1] < until {
		if !gaps {
			return end
		}
		if _, most := tr.safe(end - 1); b.longest <= most && tr.h == nil {
			return end
		}
	}
	if !gaps && tr.h == nil {
		j := k + 1
		for j < end && tr.t[j] < until && !value.IsStaleNaN(tr.v[j]) {
			j++
		}
		return j
	}
	safe, most := tr.safe(k)
	if tr.h == nil && !b.stale {
		// Only steps matter.
		t := tr.t[:end]
		if t[end-1] >= until {
			n, _ := slices.BinarySearch(t[k:], until)
			t = t[:max(k+n, k+1)]
		}
		return tr.steps(t, k+1, safe, most)
	}
	t, v := tr.t[:end], tr.v[:end]
	j := k + 1
	for ; j < len(t) && t[j] < until; j++ {
		if j >= safe {
			safe, most = tr.safe(j)
			t, v = tr.t[:end], tr.v[:end]
		}
		if d := t[j] - t[j-1]; d > most {
			gap := d > longest(tr.interval(j))
			t, v = tr.t[:end], tr.v[:end]
			if gap {
				break
			}
		}
		if v[j] != v[j] && value.IsStaleNaN(v[j]) || tr.h != nil && tr.stale(j) {
			break
		}
	}
	return j
}

// steps returns the position, from j on, of the first of the times at the beginning of
// the window before which there is a gap, or their number. most is a step that is no gap
// before the position safe.
func (tr *track) steps(t []int64, j, safe int, most int64) int {
	n := len(t)
	for {
		for end := min(safe, n); j < end && t[j]-t[j-1] <= most; {
			j++
		}
		switch {
		case j >= n:
			return n
		case j >= safe:
			safe, most = tr.safe(j)
		case t[j]-t[j-1] > longest(tr.interval(j)):
			return j
		default:
			j++
		}
		t = tr.t[:n] // the window may have moved to other memory
	}
}

// safe returns a step that is no gap before any sample from k up to the position
// returned, whatever the samples around it are.
func (tr *track) safe(k int) (until int, step int64) {
	for len(tr.t) <= k+neighbours && tr.load() {
	}
	until = len(tr.t)
	if !tr.ended {
		until = max(k+1, until-neighbours)
	}
	step = int64(math.MaxInt64)
	for _, b := range tr.batches {
		step = min(step, b.shortest)
	}
	if tr.ended && len(tr.t) < kept {
		// The window has too few steps, so interval also uses those of the samples that
		// were left out, and with none of them the assumed one.
		old := append(tr.older(), tr.t[0])
		for i := 1; i < len(old); i++ {
			step = min(step, old[i]-old[i-1])
		}
		if len(old)+len(tr.t) <= 3 {
			step = min(step, tr.assumed())
		}
	}
	step = min(max(step, tr.floor, 1), maxInterval)
	return until, longest(step)
}
