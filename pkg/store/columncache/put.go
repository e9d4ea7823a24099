package columncache

import (
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
)

// Batch are entries to be kept. It keeps its memory after Reset.
type Batch struct {
	b     []byte
	pages []Page
	ends  []int // of the entries in b; an entry without bytes declines its page
}

// Reset removes all entries.
func (w *Batch) Reset() { w.b, w.pages, w.ends = w.b[:0], w.pages[:0], w.ends[:0] }

// Add adds the chunks of a page, which are in ascending order. Chunks that do not fit into an
// entry make the page one that is not kept.
func (w *Batch) Add(p Page, chunks []Chunk) {
	w.b = appendEntry(w.b, p, chunks)
	w.pages, w.ends = append(w.pages, p), append(w.ends, len(w.b))
}

// Last returns the chunks of the last entry and removes it, if it is that of the page. Their
// bytes are valid until the next Add.
func (w *Batch) Last(p Page) []Chunk {
	n := len(w.pages)
	if n == 0 || w.pages[n-1] != p {
		return nil
	}
	start := 0
	if n > 1 {
		start = w.ends[n-2]
	}
	e, _ := parse(w.b[start:w.ends[n-1]], p)
	w.b, w.pages, w.ends = w.b[:start], w.pages[:n-1], w.ends[:n-1]
	return e.All()
}

// Len is the number of bytes of all entries.
func (w *Batch) Len() int { return len(w.b) }

// Decline marks a page as one that is not worth to be kept.
func (w *Batch) Decline(p Page) { w.pages, w.ends = append(w.pages, p), append(w.ends, len(w.b)) }

// Accepts says whether a batch would be kept now. It may be refused nevertheless.
func (c *Cache) Accepts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := int64(c.current+1)*c.region - c.at
	return !c.closed && !c.emptying && (left >= maxEntry || c.old((c.current+1)%regions))
}

// old says whether a region may be written again. It needs the lock.
func (c *Cache) old(region int) bool {
	return c.began[region].IsZero() || c.now().Sub(c.began[region]) >= c.minAge
}

// Put keeps the entries of a batch, in place of those of the same pages. It keeps none where
// the file is full of entries that are too young, or cannot be written: queries then read
// pages of blocks as they are.
func (c *Cache) Put(w *Batch) {
	at, began, ok := c.reserve(int64(len(w.b)))
	if !ok {
		return
	}
	if len(w.b) > 0 {
		if _, err := c.f.WriteAt(w.b, at); err != nil {
			c.m.failed.Inc()
			return
		}
	}
	var replaced []place
	c.mu.Lock()
	if region := int(at / c.region); c.closed || len(w.b) > 0 && !c.began[region].Equal(began) {
		c.mu.Unlock()
		return
	}
	start := 0
	for i, p := range w.pages {
		tk, in := p.table()
		t := c.tables[tk]
		if t == nil {
			t = &table{}
			c.tables[tk] = t
		}
		if old := t.place[in]; old.length > 0 && old.length != declined {
			replaced = append(replaced, old)
		}
		t.place[in] = place{at: uint32((at + int64(start)) / unit), length: uint16((w.ends[i] - start) / unit)}
		if w.ends[i] == start {
			t.place[in] = place{length: declined}
			c.declined++
		}
		start = w.ends[i]
	}
	if c.declined > maxDeclined {
		c.declined = 0
		c.clear(func(p place) bool { return p.length == declined })
	}
	c.mu.Unlock()
	c.m.written.Add(float64(len(w.b)))
	c.overwrite(replaced)
}

// reserve takes n bytes of the file. began is when their region was begun.
func (c *Cache) reserve(n int64) (at int64, began time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.emptying || n > c.region {
		return 0, began, false
	}
	if end := int64(c.current+1) * c.region; c.at+n > end && !c.begin((c.current+1)%regions) {
		return 0, began, false
	}
	at = c.at
	c.at += n
	return at, c.began[c.current], true
}

// begin empties a region, if it is old enough, and makes it the current one. It needs the
// lock, and releases it in between. It overwrites the old entries, because they may have
// samples that are deleted before the region is full.
func (c *Cache) begin(region int) bool {
	if !c.old(region) {
		return false
	}
	from, to := uint32(int64(region)*c.region/unit), uint32(int64(region+1)*c.region/unit)
	c.clear(func(p place) bool { return p.length != declined && p.at >= from && p.at < to })
	if !c.began[region].IsZero() {
		c.emptying = true
		c.mu.Unlock()
		c.zero(int64(from)*unit, c.region)
		c.mu.Lock()
		c.emptying = false
	}
	c.current, c.at, c.began[region] = region, int64(from)*unit, c.now()
	return !c.closed
}

// clear removes places, and tables without any left. It needs the lock.
func (c *Cache) clear(which func(p place) bool) {
	for tk, t := range c.tables {
		left := false
		for i, p := range t.place {
			if p.length > 0 && which(p) {
				t.place[i] = place{}
			}
			left = left || t.place[i].length > 0
		}
		if !left {
			delete(c.tables, tk)
		}
	}
}

// zero overwrites bytes of the file.
func (c *Cache) zero(at, n int64) {
	zeros := make([]byte, min(n, readTogether))
	for ; n > 0; n -= int64(len(zeros)) {
		zeros = zeros[:min(n, int64(len(zeros)))]
		if _, err := c.f.WriteAt(zeros, at); err != nil {
			c.m.failed.Inc()
			return
		}
		at += int64(len(zeros))
	}
}

// overwrite overwrites entries that no table names.
func (c *Cache) overwrite(all []place) {
	slices.SortFunc(all, func(a, b place) int { return int(int64(a.at) - int64(b.at)) })
	for i := 0; i < len(all); {
		end, size := i+1, int64(all[i].length)
		for end < len(all) && all[end].follows(all[end-1]) {
			size += int64(all[end].length)
			end++
		}
		c.zero(int64(all[i].at)*unit, size*unit)
		i = end
	}
}

// Forget drops the entries of a block, and overwrites them: they may have samples that were
// deleted.
func (c *Cache) Forget(block ulid.ULID) {
	var all []place
	c.mu.Lock()
	for tk, t := range c.tables {
		if tk.block != block {
			continue
		}
		for _, p := range t.place {
			if p.length > 0 && p.length != declined {
				all = append(all, p)
			}
		}
		delete(c.tables, tk)
	}
	c.mu.Unlock()
	c.overwrite(all)
}
