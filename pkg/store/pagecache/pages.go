package pagecache

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Pages holds the pages of one object that one request needs. It must not be used
// concurrently. Slices that Bytes returned stay valid after Release, which only ends
// the accounting; after Recycle they must not be used.
type Pages struct {
	c    *Cache
	o    Object
	acct *Account
	// loaded are disjoint and ascending.
	loaded []loadedRun
	held   int64
}

// loadedRun is the bytes of neighbouring pages.
type loadedRun struct {
	run
	b []byte
}

// page is the memory of one page of the run.
func (l *loadedRun) page(page uint32) []byte {
	off := int(page-l.first) * pageSize
	return l.b[off:min(off+pageSize, len(l.b))]
}

// Open begins reading an object. The account may be shared by many Pages.
func (c *Cache) Open(o Object, acct *Account) *Pages {
	return &Pages{c: c, o: o, acct: acct}
}

// Load brings the ranges into memory with at most one round of requests. A
// range that leaves the object is an error.
func (p *Pages) Load(ctx context.Context, ranges []Range) (Counts, error) {
	if err := p.c.checkBounds(p.o, ranges); err != nil {
		return Counts{}, err
	}
	want := p.missing(ranges)
	if len(want) == 0 {
		return Counts{}, nil
	}
	n := 0
	for _, r := range want {
		n += r.pages()
	}
	if err := p.acct.take(ctx, int64(n)*pageSize); err != nil {
		return Counts{}, err
	}
	p.held += int64(n) * pageSize
	fresh := make([]loadedRun, len(want))
	var missing []uint32
	for i, r := range want {
		size := min(int64(r.end)*pageSize, p.o.Size) - int64(r.first)*pageSize
		fresh[i] = loadedRun{run: r, b: p.c.buffers.get(int(size))}
		missing = p.c.get(p.o, &fresh[i], missing)
	}
	counts := Counts{Hits: int64(n - len(missing)), Misses: int64(len(missing))}
	p.c.m.hits.Add(float64(counts.Hits))
	p.c.m.misses.Add(float64(len(missing)))
	if len(missing) > 0 {
		read, err := p.c.readThrough(ctx, p.o, missing, fresh)
		counts.Add(read)
		if err != nil {
			return counts, err // fresh may still be written to; the collector frees it
		}
	}
	p.add(fresh)
	return counts, nil
}

func (c *Cache) checkBounds(o Object, ranges []Range) error {
	for _, r := range ranges {
		if r.Off < 0 || r.End > o.Size {
			return &BoundsError{Name: o.Name, Size: o.Size, Range: r}
		}
	}
	return nil
}

// missing returns the pages of the ranges that are not loaded.
func (p *Pages) missing(ranges []Range) []run {
	want := runsOf(ranges)
	if len(p.loaded) == 0 {
		return want
	}
	have := make([]run, len(p.loaded))
	for i, l := range p.loaded {
		have[i] = l.run
	}
	return subtract(want, have)
}

func (p *Pages) add(fresh []loadedRun) {
	if len(p.loaded) == 0 {
		p.loaded = fresh
		return
	}
	p.loaded = append(p.loaded, fresh...)
	slices.SortFunc(p.loaded, func(a, b loadedRun) int { return cmp.Compare(a.first, b.first) })
}

// find returns the number of the loaded run that has the page.
func (p *Pages) find(page uint32) (int, bool) { return findRun(p.loaded, page) }

func findRun(runs []loadedRun, page uint32) (int, bool) {
	if len(runs) == 1 {
		return 0, runs[0].first <= page && page < runs[0].end
	}
	return slices.BinarySearchFunc(runs, page, func(l loadedRun, page uint32) int {
		switch {
		case l.end <= page:
			return -1
		case l.first > page:
			return 1
		}
		return 0
	})
}

// Loaded says whether all bytes of the range are in memory.
func (p *Pages) Loaded(r Range) bool {
	if r.End > p.o.Size {
		return false
	}
	for page := uint32(r.Off / pageSize); int64(page)*pageSize < r.End; {
		i, ok := p.find(page)
		if !ok {
			return false
		}
		page = p.loaded[i].end
	}
	return true
}

// Bytes returns loaded bytes: a view if they were loaded together, a copy otherwise.
// The caller must not change them.
func (p *Pages) Bytes(r Range) ([]byte, error) {
	if r.Off < 0 || r.End < r.Off {
		return nil, fmt.Errorf("BUG: bytes [%d, %d) of %s", r.Off, r.End, p.o.Name)
	}
	if r.End == r.Off {
		return nil, nil
	}
	if i, ok := p.find(uint32(r.Off / pageSize)); ok {
		l := &p.loaded[i]
		in := r.Off - int64(l.first)*pageSize
		if end := in + r.size(); end <= int64(len(l.b)) {
			return l.b[in:end:end], nil
		}
	}
	if !p.Loaded(r) {
		return nil, fmt.Errorf("BUG: bytes [%d, %d) of %s were not loaded", r.Off, r.End, p.o.Name)
	}
	out := make([]byte, 0, r.size())
	for at := r.Off; at < r.End; {
		i, _ := p.find(uint32(at / pageSize))
		l := &p.loaded[i]
		b := l.b[at-int64(l.first)*pageSize:]
		b = b[:min(int64(len(b)), r.End-at)]
		out = append(out, b...)
		at += int64(len(b))
	}
	return out, nil
}

// Release ends the accounting for the pages.
func (p *Pages) Release() {
	p.acct.Drop(p.held)
	p.held = 0
	p.loaded = nil
}

// Recycle is Release, and lets other requests use the memory of the pages.
func (p *Pages) Recycle() {
	for _, l := range p.loaded {
		p.c.buffers.put(l.b)
	}
	p.Release()
}

// BoundsError reports a reference to bytes that an object does not have.
type BoundsError struct {
	Name  string
	Size  int64
	Range Range
}

// Error names the range and the object.
func (e *BoundsError) Error() string {
	return fmt.Sprintf("bytes [%d, %d) lie outside of %s, which has %d bytes", e.Range.Off, e.Range.End, e.Name, e.Size)
}
