package pagecache

import (
	"context"
	"fmt"
)

// Pages holds the pages of one object that one request needs. It must not be used
// concurrently. Slices that Bytes returned stay valid after Release, which only ends
// the accounting.
type Pages struct {
	c    *Cache
	o    Object
	acct *Account
	m    map[uint32][]byte
	held int64
}

// Open begins reading an object. The account may be shared by many Pages.
func (c *Cache) Open(o Object, acct *Account) *Pages {
	return &Pages{c: c, o: o, acct: acct, m: map[uint32][]byte{}}
}

// Load brings the ranges into memory with at most one round of requests. A
// range that leaves the object is an error.
func (p *Pages) Load(ctx context.Context, ranges []Range) (Counts, error) {
	for _, r := range ranges {
		if r.Off < 0 || r.End > p.o.Size {
			return Counts{}, &BoundsError{Name: p.o.Name, Size: p.o.Size, Range: r}
		}
	}
	want := pagesOf(ranges)
	n := 0
	for _, page := range want {
		if _, ok := p.m[page]; !ok {
			want[n] = page
			n++
		}
	}
	want = want[:n]
	if n == 0 {
		return Counts{}, nil
	}
	if err := p.acct.take(ctx, int64(n)*pageSize); err != nil {
		return Counts{}, err
	}
	p.held += int64(n) * pageSize
	missing := p.c.get(p.o, want, func(page uint32, b []byte) { p.m[page] = b })
	hits := int64(n - len(missing))
	p.c.m.hits.Add(float64(hits))
	p.c.m.misses.Add(float64(len(missing)))
	if len(missing) == 0 {
		return Counts{Hits: hits}, nil
	}
	read, counts, err := p.c.readThrough(ctx, p.o, missing)
	for page, b := range read {
		p.m[page] = b
	}
	counts.Hits = hits
	return counts, err
}

// Loaded says whether all bytes of the range are in memory.
func (p *Pages) Loaded(r Range) bool {
	if r.End > p.o.Size {
		return false
	}
	for page := uint32(r.Off / pageSize); int64(page)*pageSize < r.End; page++ {
		if _, ok := p.m[page]; !ok {
			return false
		}
	}
	return true
}

// Bytes returns loaded bytes: a view if they lie in one page, a copy otherwise.
// The caller must not change them.
func (p *Pages) Bytes(r Range) ([]byte, error) {
	if r.Off < 0 || r.End < r.Off || !p.Loaded(r) {
		return nil, fmt.Errorf("BUG: bytes [%d, %d) of %s were not loaded", r.Off, r.End, p.o.Name)
	}
	if r.End == r.Off {
		return nil, nil
	}
	page, in := uint32(r.Off/pageSize), r.Off%pageSize
	if b := p.m[page]; in+r.size() <= int64(len(b)) {
		return b[in : in+r.size() : in+r.size()], nil
	}
	out := make([]byte, 0, r.size())
	for int64(len(out)) < r.size() {
		b := p.m[page][in:]
		out = append(out, b[:min(int64(len(b)), r.size()-int64(len(out)))]...)
		page, in = page+1, 0
	}
	return out, nil
}

// Release ends the accounting for the pages.
func (p *Pages) Release() {
	p.acct.Drop(p.held)
	p.held = 0
	p.m = nil
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
