package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// guard follows the blocks of the bucket by the requests that change it, on one clock,
// and finds deletions that are not safe (I6).
type guard struct {
	delay time.Duration

	mu     sync.Mutex
	blocks map[ulid.ULID]*tracked
	// wrong is the first violation.
	wrong   error
	deleted int
}

// tracked is a block as the requests show it.
type tracked struct {
	uploader string
	meta     *block.Meta // nil while it is not visible
	marked   time.Time
	// asked is when each client last looked for a mark; it takes the time of the mark that
	// it writes then.
	asked map[string]time.Time
	// gone says that an object of the block was deleted while it was visible.
	gone bool
}

func newGuard(delay time.Duration) *guard {
	return &guard{delay: delay, blocks: map[ulid.ULID]*tracked{}}
}

// blockOf returns the block that an object belongs to.
func blockOf(key string) (id ulid.ULID, rest string, ok bool) {
	first, rest, ok := strings.Cut(key, "/")
	if !ok {
		return id, "", false
	}
	id, err := ulid.ParseStrict(first)
	return id, rest, err == nil
}

// see records a change. meta is that of the block when its meta.json was written.
func (g *guard) see(e event, meta *block.Meta) {
	id, rest, ok := blockOf(e.key)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.blocks[id]
	if b == nil && e.get {
		return
	}
	if b == nil {
		b = &tracked{uploader: e.client, asked: map[string]time.Time{}}
		g.blocks[id] = b
	}
	switch {
	case e.get:
		b.asked[e.client] = e.at
	case e.put && rest == block.MetaFile:
		b.meta, b.gone = meta, false
	case e.put && rest == block.DeletionMarkFile:
		// Later marks do not make an earlier one younger.
		if b.marked.IsZero() {
			b.marked = e.at
			if at, ok := b.asked[e.client]; ok {
				b.marked = at
			}
		}
	case e.put:
	case rest == block.DeletionMarkFile:
		if !b.gone {
			b.marked = time.Time{}
		}
	case strings.HasSuffix(rest, "-mark.json"):
	default:
		g.deletion(e, id, b)
	}
}

// deletion judges the deletion of a part of a block.
func (g *guard) deletion(e event, id ulid.ULID, b *tracked) {
	if b.meta == nil {
		if b.uploader != e.client && !b.gone {
			g.fail("%s deleted %s of the unfinished upload of %s", e.client, e.key, b.uploader)
		}
		return
	}
	if b.gone {
		return
	}
	b.gone = true
	g.deleted++
	if b.marked.IsZero() {
		g.fail("%s deleted %s of a visible block without a deletion mark", e.client, e.key)
		return
	}
	// Both times are of whole seconds of the bucket.
	if age := e.at.Sub(b.marked); age < g.delay-2*time.Second {
		g.fail("%s deleted %s %s after its deletion mark, before the delay of %s", e.client, e.key, age, g.delay)
		return
	}
	if missing := g.uncovered(id, b.meta); len(missing) > 0 {
		g.fail("%s deleted %s, but no other block of resolution %d has its sources %v", e.client, e.key, b.meta.Resolution(), missing)
	}
}

func (g *guard) fail(format string, args ...any) {
	if g.wrong == nil {
		g.wrong = fmt.Errorf("I6: "+format, args...)
	}
}

// uncovered are the sources of a block that no other visible block of the same
// resolution, group and time has.
func (g *guard) uncovered(id ulid.ULID, m *block.Meta) []ulid.ULID {
	var out []ulid.ULID
	for _, src := range m.Compaction.Sources {
		found := false
		for other, o := range g.blocks {
			if other != id && o.meta != nil && !o.gone && o.meta.Resolution() == m.Resolution() && sameGroup(o.meta, m) &&
				o.meta.MinTime <= m.MinTime && o.meta.MaxTime >= m.MaxTime && slices.Contains(o.meta.Compaction.Sources, src) {
				found = true
				break
			}
		}
		if !found {
			out = append(out, src)
		}
	}
	return out
}

// sameGroup says whether the labels of two blocks are equal but for that of the ring.
func sameGroup(a, b *block.Meta) bool {
	strip := func(m *block.Meta) map[string]string {
		ls := maps.Clone(m.Thanos.Labels)
		delete(ls, "receive_replica")
		return ls
	}
	return maps.Equal(strip(a), strip(b))
}

// violation is the first unsafe deletion.
func (g *guard) violation() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wrong
}

// visible are the blocks that are in the bucket and not marked.
func (g *guard) visible() (live, all []*block.Meta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.blocks {
		if b.meta != nil && !b.gone {
			all = append(all, b.meta)
			if b.marked.IsZero() {
				live = append(live, b.meta)
			}
		}
	}
	return live, all
}
