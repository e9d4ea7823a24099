package pagecache

import "slices"

// Range is the bytes [Off, End) of an object.
type Range struct {
	Off, End int64
}

// size is the number of bytes.
func (r Range) size() int64 { return r.End - r.Off }

// pagesOf returns the ascending numbers of the pages that the ranges touch.
// Ranges need not be sorted and may overlap; empty ones touch nothing.
func pagesOf(ranges []Range) []uint32 {
	var out []uint32
	sorted := true
	for _, r := range ranges {
		if r.End <= r.Off {
			continue
		}
		first, last := uint32(r.Off/pageSize), uint32((r.End-1)/pageSize)
		if n := len(out); n > 0 && first <= out[n-1] {
			if first < out[n-1] {
				sorted = false
			} else {
				first++
			}
		}
		for p := first; p <= last; p++ {
			out = append(out, p)
		}
	}
	if !sorted {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

// run is the pages [first, end) that one request reads.
type run struct {
	first, end uint32
}

// plan chooses the requests that read the pages, which are ascending. A gap of
// at most maxGap pages is read along, because a request costs as much time as
// so many bytes; a run of more than maxRun pages is cut, so that its parts are
// read in parallel.
func plan(pages []uint32, maxGap, maxRun int) []run {
	var out []run
	for _, p := range pages {
		if n := len(out); n > 0 {
			last := &out[n-1]
			if int(p-last.end) <= maxGap && int(p+1-last.first) <= maxRun {
				last.end = p + 1
				continue
			}
		}
		out = append(out, run{first: p, end: p + 1})
	}
	return out
}
