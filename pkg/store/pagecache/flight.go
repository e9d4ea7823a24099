package pagecache

import (
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

// flight is one page that is being read. page is set before landed is closed; it is
// nil when the read failed.
type flight struct {
	landed chan struct{}
	page   []byte
}

// claim divides the pages into those that the caller must read, and report with
// land, and those that others are reading.
func (f *flights) claim(o Object, pages []uint32) (mine []uint32, others map[uint32]*flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[key]*flight{}
	}
	for _, page := range pages {
		k := key{o.Block, o.File, page}
		if fl, ok := f.m[k]; ok {
			if others == nil {
				others = map[uint32]*flight{}
			}
			others[page] = fl
			continue
		}
		f.m[k] = &flight{landed: make(chan struct{})}
		mine = append(mine, page)
	}
	return mine, others
}

// land ends the flights of the pages; pages that are not in read have failed.
func (f *flights) land(o Object, pages []uint32, read map[uint32][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, page := range pages {
		k := key{o.Block, o.File, page}
		fl := f.m[k]
		delete(f.m, k)
		fl.page = read[page]
		close(fl.landed)
	}
}

// readThrough returns pages that are not in the cache: it reads them, or waits for the
// request that reads them. It reads pages itself that another request failed to read,
// because that request may have been cancelled.
func (c *Cache) readThrough(ctx context.Context, o Object, pages []uint32) (map[uint32][]byte, Counts, error) {
	var counts Counts
	out := make(map[uint32][]byte, len(pages))
	for len(pages) > 0 {
		mine, others := c.flights.claim(o, pages)
		if len(mine) > 0 {
			n, err := c.fetchMine(ctx, o, mine, out)
			counts.Add(n)
			if err != nil {
				return nil, counts, err
			}
		}
		pages = pages[:0:0]
		for page, fl := range others {
			select {
			case <-fl.landed:
			case <-ctx.Done():
				return nil, counts, context.Cause(ctx)
			}
			if fl.page == nil {
				pages = append(pages, page)
				continue
			}
			out[page] = fl.page
		}
		slices.Sort(pages)
	}
	return out, counts, nil
}

// fetchMine reads claimed pages into out, and ends their flights in any case.
func (c *Cache) fetchMine(ctx context.Context, o Object, mine []uint32, out map[uint32][]byte) (Counts, error) {
	read := make(map[uint32][]byte, len(mine))
	defer func() { c.flights.land(o, mine, read) }()
	for _, page := range mine {
		read[page] = nil
	}
	counts, err := c.fetch(ctx, o, mine, func(page uint32, b []byte) {
		if _, ok := read[page]; ok {
			read[page], out[page] = b, b
		}
	})
	return counts, err
}
