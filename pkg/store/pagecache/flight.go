package pagecache

import (
	"bytes"
	"context"
	"slices"
	"sync"
)

// flights are the pages that are being read from the bucket. A request that needs one
// of them waits for it and does not read it again.
type flights struct {
	mu sync.Mutex
	m  map[key]*flight
}

// flight is one page that is being read. page is set before landed is closed, which all
// pages of a claim share; it is nil when the read failed or when its reader did not
// keep the page.
type flight struct {
	landed  chan struct{}
	waiters int // guarded by flights.mu
	page    []byte
}

// claim divides the pages into those that the caller must read, and report with
// land, and those that others are reading.
func (f *flights) claim(o Object, pages []uint32) (mine []uint32, others map[uint32]*flight) {
	if len(pages) == 0 {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[key]*flight{}
	}
	landed := make(chan struct{})
	fresh := make([]flight, len(pages))
	for i, page := range pages {
		k := key{o.Block, o.File, page}
		if fl, ok := f.m[k]; ok {
			if others == nil {
				others = map[uint32]*flight{}
			}
			fl.waiters++
			others[page] = fl
			continue
		}
		fresh[i].landed = landed
		f.m[k] = &fresh[i]
		mine = append(mine, page)
	}
	return mine, others
}

// land ends the flights of the pages. read returns the bytes of a page, or nil; they
// are copied if another request waits for them.
func (f *flights) land(o Object, pages []uint32, read func(i int) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var landed chan struct{}
	for i, page := range pages {
		k := key{o.Block, o.File, page}
		fl := f.m[k]
		delete(f.m, k)
		if fl.waiters > 0 {
			fl.page = bytes.Clone(read(i))
		}
		landed = fl.landed
	}
	if len(f.m) == 0 {
		f.m = nil // a map does not give memory back
	}
	close(landed)
}

// readThrough reads pages that are not in the cache into the runs, or waits for the
// request that reads them. It reads pages itself that another request failed to read,
// because that request may have been cancelled.
func (c *Cache) readThrough(ctx context.Context, o Object, pages []uint32, into []loadedRun) (Counts, error) {
	var counts Counts
	place := func(page uint32) []byte {
		i, ok := findRun(into, page)
		if !ok {
			return nil
		}
		return into[i].page(page)
	}
	for len(pages) > 0 {
		mine, others := c.flights.claim(o, pages)
		if len(mine) > 0 {
			n, err := c.fetchMine(ctx, o, mine, place)
			counts.Add(n)
			if err != nil {
				return counts, err
			}
		}
		pages = pages[:0:0]
		for page, fl := range others {
			select {
			case <-fl.landed:
			case <-ctx.Done():
				return counts, context.Cause(ctx)
			}
			if fl.page == nil {
				pages = append(pages, page)
				continue
			}
			copy(place(page), fl.page)
		}
		slices.Sort(pages)
		pages = c.getPages(o, pages, place)
	}
	return counts, nil
}

// fetchMine reads claimed pages, and ends their flights in any case. place returns the
// memory for a page; it is nil for pages that are read only to be cached.
func (c *Cache) fetchMine(ctx context.Context, o Object, mine []uint32, place func(page uint32) []byte) (counts Counts, err error) {
	ok := false
	defer func() {
		c.flights.land(o, mine, func(i int) []byte {
			if !ok || place == nil {
				return nil
			}
			return place(mine[i])
		})
	}()
	counts, err = c.fetch(ctx, o, mine, func(page uint32, b []byte) {
		if place == nil {
			return
		}
		if _, asked := slices.BinarySearch(mine, page); asked {
			copy(place(page), b)
		}
	})
	ok = err == nil
	return counts, err
}

// Prefetch reads the pages of the ranges that are neither cached nor being read into
// the cache. Nothing of them is held in memory, but for small buffers, and the cache
// may drop them again.
func (c *Cache) Prefetch(ctx context.Context, o Object, ranges []Range) (Counts, error) {
	if err := c.checkBounds(o, ranges); err != nil {
		return Counts{}, err
	}
	var missing []uint32
	for _, r := range runsOf(ranges) {
		missing = c.absent(o, r, missing)
	}
	mine, others := c.flights.claim(o, missing)
	c.flights.forgo(others)
	if len(mine) == 0 {
		return Counts{}, nil
	}
	counts, err := c.fetchMine(ctx, o, mine, nil)
	counts.Ahead = int64(len(mine))
	return counts, err
}

// forgo takes back the interest in flights of others.
func (f *flights) forgo(others map[uint32]*flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fl := range others {
		fl.waiters--
	}
}

// Cached says whether all pages of the ranges are in the cache.
func (c *Cache) Cached(o Object, ranges []Range) bool {
	for _, r := range runsOf(ranges) {
		if len(c.absent(o, r, nil)) > 0 {
			return false
		}
	}
	return true
}
