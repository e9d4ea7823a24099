package pagecache

import (
	"cmp"
	"slices"
)

// Range is the bytes [Off, End) of an object.
type Range struct {
	Off, End int64
}

// size is the number of bytes.
func (r Range) size() int64 { return r.End - r.Off }

// run is the pages [first, end).
type run struct {
	first, end uint32
}

func (r run) pages() int { return int(r.end - r.first) }

// runsOf returns the pages that the ranges touch, as ascending runs with gaps between
// them. Ranges need not be sorted and may overlap; empty ones touch nothing.
func runsOf(ranges []Range) []run {
	var out []run
	sorted := true
	for _, r := range ranges {
		if r.End <= r.Off {
			continue
		}
		next := run{first: uint32(r.Off / pageSize), end: uint32((r.End-1)/pageSize) + 1}
		if n := len(out); n > 0 && next.first <= out[n-1].end && next.first >= out[n-1].first {
			out[n-1].end = max(out[n-1].end, next.end)
			continue
		} else if n > 0 && next.first < out[n-1].first {
			sorted = false
		}
		out = append(out, next)
	}
	if sorted {
		return out
	}
	slices.SortFunc(out, func(a, b run) int { return cmp.Compare(a.first, b.first) })
	joined := out[:1]
	for _, r := range out[1:] {
		if last := &joined[len(joined)-1]; r.first <= last.end {
			last.end = max(last.end, r.end)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// subtract returns the pages of want that are not in have. Both ascend, with gaps.
func subtract(want, have []run) []run {
	if len(have) == 0 {
		return want
	}
	var out []run
	for _, w := range want {
		for len(have) > 0 && have[0].end <= w.first {
			have = have[1:]
		}
		for _, h := range have {
			if h.first >= w.end {
				break
			}
			if h.first > w.first {
				out = append(out, run{first: w.first, end: h.first})
			}
			w.first = max(w.first, min(h.end, w.end))
		}
		if w.first < w.end {
			out = append(out, w)
		}
	}
	return out
}

// costs are what plan weighs, in pages.
type costs struct {
	// request is the number of pages that cost as much as one more request.
	request int
	// most is the largest number of pages of one request.
	most int
}

// maxWaste bounds the pages that few requests read along, as a multiple of those that
// are wanted; more than fewRequests are not kept apart for the sake of bytes.
const (
	maxWaste    = 2
	fewRequests = 3
)

// plan chooses the requests that read the pages, which are ascending. It reads gaps
// along that cost less than a request, the smallest first, while all of them together
// have no more than maxWaste times the wanted pages, or cost less than one request, or
// more than fewRequests are left. A run of more than c.most pages is cut, so that its parts are read in parallel.
func plan(pages []uint32, c costs) []run {
	var runs []run
	for _, p := range pages {
		if n := len(runs); n > 0 && runs[n-1].end == p {
			runs[n-1].end++
			continue
		}
		runs = append(runs, run{first: p, end: p + 1})
	}
	var out []run
	for i, keep := range gapsToRead(runs, len(pages), c) {
		r := runs[i]
		if keep {
			out[len(out)-1].end = r.end
			continue
		}
		out = append(out, r)
	}
	return cutRuns(out, uint32(c.most))
}

// gapsToRead says of each run whether the gap before it is read along.
func gapsToRead(runs []run, wanted int, c costs) []bool {
	keep := make([]bool, len(runs))
	var small []int
	for i := 1; i < len(runs); i++ {
		if int(runs[i].first-runs[i-1].end) < c.request {
			small = append(small, i)
		}
	}
	gap := func(i int) int { return int(runs[i].first - runs[i-1].end) }
	slices.SortStableFunc(small, func(a, b int) int { return cmp.Compare(gap(a), gap(b)) })
	left := max(c.request, maxWaste*wanted)
	for n, i := range small {
		if left -= gap(i); left < 0 && len(runs)-n <= fewRequests {
			break
		}
		keep[i] = true
	}
	return keep
}

func cutRuns(runs []run, most uint32) []run {
	if !slices.ContainsFunc(runs, func(r run) bool { return r.end-r.first > most }) {
		return runs
	}
	var out []run
	for _, r := range runs {
		for r.end-r.first > most {
			out = append(out, run{first: r.first, end: r.first + most})
			r.first += most
		}
		out = append(out, r)
	}
	return out
}
