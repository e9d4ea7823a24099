package dedup

import (
	"cmp"
	"math"
)

// Edges of a frame that has no sample there.
const (
	openStart = math.MinInt64
	openEnd   = math.MaxInt64
)

// coverage merges replicas. The first one gives all its samples. Each hole of it, a
// step of more than one and a half of its intervals, is filled with the samples of the
// second one, its holes within that hole with those of the third, and so on.
//
// So the samples at one time depend on those around it only, not on where the
// series is read from. The samples of two replicas are half an interval apart at
// least. A stale marker is a hole up to the next sample of its replica; the marker
// itself is left out when another replica continues.
//
// It decodes the first replica, and of the others the chunks around holes.
type coverage struct {
	tracks []track
	bounds Bounds
	mode   Mode
	// lead is Options.Lead, and behind how far iterators stay behind.
	lead, behind int64
	// frames is a stack: the last one is the innermost hole.
	frames []frame
	last   last
	adjuster
	adjusted adjusted
	// columns says that only the samples matter, and not how they are divided into runs.
	columns bool
}

// frame is a hole that is filled with the samples of one replica. The outermost
// one is all of the time.
type frame struct {
	rep int
	// lo and hi are the times of the samples around the hole.
	lo, hi int64
	// interval is that of the replica whose hole it is.
	interval int64
	// prev is the time of the last sample of the replica in the frame, lo before the
	// first; own says that it is one of the replica.
	prev int64
	own  bool
	// stopped says that the replica has ended with a stale marker after prev.
	stopped bool
	// filled is the time of the sample before which the gap is filled.
	filled int64
	// gone says that the replica whose hole it is has ended with a stale marker there.
	gone bool
}

// last is the sample that was returned last.
type last struct {
	any bool
	rep int
	t   int64
	// v and h are its value, without an offset; h is empty for a float.
	v     float64
	h     hist
	stale bool
}

// run is samples of one batch of a replica that follow each other, as columns.
type run struct {
	t []int64
	v []float64
	// h and st are nil when there are no histograms or start times.
	h  []hist
	st []int64
	// rep is the replica, chunk the number of the batch in it; whole says that the run
	// is all of the batch.
	rep, chunk int
	whole      bool
}

// next returns the next run; false is the end or an error. Positions and samples of
// the run are valid until the next call.
func (c *coverage) next() (run, bool) {
	for i := range c.tracks {
		c.tracks[i].trim()
	}
	for len(c.frames) > 0 {
		f := &c.frames[len(c.frames)-1]
		tr := &c.tracks[f.rep]
		if !c.enter(f, tr) {
			c.leave(f, tr)
			continue
		}
		k := tr.at
		t := tr.t[k]
		stale := tr.stale(k)
		if stale && (c.last.any && c.last.stale || c.continues(f, t)) {
			tr.at++
			f.stopped = true
			continue
		}
		if f.filled != t && c.gap(f, tr, k) {
			f.filled = t
			c.push(frame{rep: f.rep + 1, lo: f.prev, hi: t, interval: max(f.interval, tr.interval(k)), gone: f.gone || f.stopped})
			continue
		}
		end := k + 1
		if !stale {
			end = tr.run(k, f.until(), f.rep+1 < len(c.tracks))
		}
		r := c.take(tr, k, end)
		r.rep = f.rep
		if c.last.any && (c.last.rep != f.rep || k == 0 || tr.t[k-1] != c.last.t) {
			c.join(tr, k)
			tr.unknownHint(k)
			if (c.mode == Counters || c.mode == Totals) && tr.st != nil {
				// It would be compared with a sample of another server.
				tr.st[k] = 0
			}
		}
		c.apply(tr, k, &r)
		c.passed(f, tr, end)
		f.stopped = stale
		return r, true
	}
	return run{}, false
}

// take makes a run of the samples of a track from k up to, excluding, end.
func (c *coverage) take(tr *track, k, end int) run {
	r := run{t: tr.t[k:end], v: tr.v[k:end]}
	if tr.h != nil {
		r.h = tr.h[k:end]
	}
	if tr.st != nil {
		r.st = tr.st[k:end]
	}
	b, limit := tr.batchOf(k)
	r.chunk, r.whole = b.number, b.start == k && limit == end
	return r
}

// passed records that the samples of f up to position end were returned.
func (c *coverage) passed(f *frame, tr *track, end int) {
	tr.at = end
	f.prev, f.own = tr.t[end-1], true
	c.last = last{any: true, rep: f.rep, t: f.prev, v: tr.v[end-1], stale: tr.stale(end - 1)}
	if tr.h != nil && tr.h[end-1] != (hist{}) {
		c.last.h = tr.h[end-1]
	}
}

// until is the first time that is too late for a sample in the frame.
func (f *frame) until() int64 {
	if f.hi == openEnd {
		return openEnd
	}
	return max(f.hi, math.MinInt64+f.interval) - f.interval/2
}

// enter moves the track to the next sample within the frame and reports whether
// there is one.
func (c *coverage) enter(f *frame, tr *track) bool {
	if !f.own && f.lo != openStart {
		from := min(f.lo, math.MaxInt64-f.interval) + f.interval/2
		if c.mode == Values {
			tr.skip(from, false)
		} else {
			tr.skip(f.lo, true)
		}
		if !tr.pass(from) {
			return false
		}
	} else if tr.at >= len(tr.t) && !tr.load() {
		return false
	}
	return tr.t[tr.at] < f.until()
}

// gap says whether there is a hole before sample k, the next one in the frame.
func (c *coverage) gap(f *frame, tr *track, k int) bool {
	if f.rep+1 == len(c.tracks) {
		return false
	}
	t, from := tr.t[k], f.prev
	switch {
	case f.stopped:
		return true
	case from == openStart && c.bounds.MinTime == math.MinInt64:
		return true
	case from == openStart:
		from = c.bounds.MinTime
	}
	return c.hole(f, tr, k, t-from)
}

// hole says whether a step to sample k, which may be one after the last, is a hole.
func (c *coverage) hole(f *frame, tr *track, k int, step int64) bool {
	return step < 0 || step > longest(f.interval) && step > longest(tr.interval(k))
}

// leave ends a frame that has no more samples, and fills what is left of it.
func (c *coverage) leave(f *frame, tr *track) {
	done := *f
	c.frames = c.frames[:len(c.frames)-1]
	if done.rep+1 == len(c.tracks) {
		return
	}
	interval := done.interval
	switch {
	case !done.own:
		// The whole hole is one of this replica, too.
	case done.stopped || done.hi == openEnd && c.bounds.MaxTime == math.MaxInt64:
		interval = max(interval, tr.interval(tr.at))
	case !c.hole(&done, tr, tr.at, min(done.hi, c.bounds.MaxTime)-done.prev):
		return
	default:
		interval = max(interval, tr.interval(tr.at))
	}
	c.push(frame{rep: done.rep + 1, lo: done.prev, hi: done.hi, interval: interval, gone: done.gone || done.stopped})
}

func (c *coverage) push(f frame) {
	f.prev, f.filled = f.lo, openStart
	c.frames = append(c.frames, f)
	if feed, ok := c.tracks[f.rep].feed.(*chunkFeed); ok && c.columns && f.rep+1 == len(c.tracks) {
		feed.until = f.hi
		if c.mode != Values && f.hi != openEnd {
			// The change back to the replica before needs the sample after the hole, and the
			// interval there.
			feed.until = f.hi + min(kept*f.interval, math.MaxInt64-max(f.hi, 0))
		}
	}
}

// continues says whether another replica than that of f has a sample soon after the
// stale marker at t.
func (c *coverage) continues(f *frame, t int64) bool {
	if f.hi != openEnd && !f.gone && f.hi-t <= longest(f.interval) {
		return true
	}
	for i := f.rep + 1; i < len(c.tracks); i++ {
		tr := &c.tracks[i]
		if f.prev != openStart {
			tr.skip(f.prev, true)
		}
		k := tr.after(t + 1)
		if k >= 0 && !tr.stale(k) && !(k > 0 && tr.stale(k-1)) && tr.t[k]-t <= longest(tr.interval(k)) {
			return true
		}
	}
	return false
}

// err is the error of the first replica that has one.
func (c *coverage) err() error {
	for i := range c.tracks {
		if err := c.tracks[i].feed.err(); err != nil {
			return err
		}
	}
	return nil
}

// reset starts over with other replicas. Of those that are iterators it reads
// histograms as those of floats if decimals is set.
func (c *coverage) reset(replicas []Replica, o Options, decimals bool) {
	c.mode, c.bounds, c.lead = o.Mode, o.Bounds, cmp.Or(o.Lead, Lead)
	c.behind = lookBehind / Lead * c.lead
	c.frames = append(c.frames[:0], frame{lo: openStart, hi: openEnd, prev: openStart, filled: openStart})
	c.last, c.adjuster = last{}, adjuster{}
	if n := len(replicas); n <= cap(c.tracks) {
		c.tracks = c.tracks[:n]
	} else {
		c.tracks = append(c.tracks[:cap(c.tracks)], make([]track, n-cap(c.tracks))...)
	}
	for i, r := range replicas {
		tr := &c.tracks[i]
		tr.reset(r.Floor, r.Interval)
		if r.Chunks != nil {
			tr.chunks = chunkFeed{chunks: r.Chunks, bounds: c.bounds}
			tr.feed = &tr.chunks
		} else {
			tr.feed = &iteratorFeed{it: r.Samples, decimals: decimals, behind: c.behind}
		}
	}
}
