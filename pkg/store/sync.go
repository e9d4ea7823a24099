package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
)

// blocks are the blocks of one listing that the gateway serves.
type blocks struct {
	selector []*relabel.Config
	byID     map[ulid.ULID]*bucketblock.Block
	groups   []blockGroup
	view     *blocklist.View
	dropped  map[ulid.ULID]string
}

// blockGroup is the blocks of one set of external labels.
type blockGroup struct {
	labels labels.Labels
	metas  []*block.Meta
}

// sync lists the bucket and serves the blocks in it from then on. Running queries keep
// the blocks that they began with.
func (g *Gateway) sync(ctx context.Context) error {
	g.syncing.Lock()
	defer g.syncing.Unlock()
	entries := g.deletions.Entries()
	start := time.Now()
	view, err := g.deps.Poller.Poll(ctx)
	if err != nil {
		g.m.syncFailures.Inc()
		return fmt.Errorf("list the blocks of the bucket: %w", err)
	}
	if !g.deletions.Polled() {
		// Before the first answer; later Run polls more often than it lists blocks.
		if _, err := g.deletions.Poll(ctx); err != nil {
			g.m.syncFailures.Inc()
			return err
		}
	}
	now := time.Now()
	g.damage.keepOnly(view.Metas)
	kept, dropped := view.Apply(g.cfg.filters(now, g.blocks.selector, g.damage.current(now))...)
	serve := kept.Metas
	gone, added := g.swap(view, serve, dropped)
	if g.env.Bundles != nil {
		if err := g.env.Bundles.Sync(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("bundles of index headers unusable", "err", err)
		}
	}
	for _, b := range gone {
		if err := b.Release(); err != nil {
			g.log.Warn("closing of a removed block failed", "block", b.Meta().ULID, "err", err)
		}
	}
	left := g.dropUnserved(gone)
	first := g.listed.Load() == nil
	ranges := contiguous(serve)
	g.listed.Store(&ranges)
	g.removeUnservedHeaders(first)
	g.reportDeletions(ctx, entries, start, left)
	g.m.lastSync.SetToCurrentTime()
	g.m.syncDuration.Observe(time.Since(start).Seconds())
	if first || added > 0 || len(gone) > 0 {
		g.log.Info("blocks synced", "blocks", len(serve), "added", added,
			"removed", len(gone), "excluded", len(dropped), "partial", len(view.Partial), "duration", time.Since(start))
	}
	return nil
}

// swap replaces the served blocks, opening those that are new, and returns those to
// close.
func (g *Gateway) swap(view *blocklist.View, serve map[ulid.ULID]*block.Meta, dropped map[ulid.ULID]string) (gone []*bucketblock.Block, added int) {
	next := blocks{
		selector: g.blocks.selector, view: view, dropped: dropped,
		byID: make(map[ulid.ULID]*bucketblock.Block, len(serve)),
	}
	byLabels := map[string]int{}
	for id, m := range serve {
		b, ok := g.blocks.byID[id]
		if !ok {
			b = bucketblock.Open(g.env, m, view.Sizes[id])
			added++
		}
		next.byID[id] = b
		ext := b.Meta().ExternalLabels()
		i, ok := byLabels[ext.String()]
		if !ok {
			i = len(next.groups)
			byLabels[ext.String()] = i
			next.groups = append(next.groups, blockGroup{labels: ext})
		}
		next.groups[i].metas = append(next.groups[i].metas, b.Meta())
	}
	for id, b := range g.blocks.byID {
		if _, ok := next.byID[id]; !ok {
			gone = append(gone, b)
		}
	}
	g.mu.Lock()
	g.blocks = next
	g.mu.Unlock()
	return gone, added
}

// serves says whether the block is served now.
func (g *Gateway) serves(id ulid.ULID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.blocks.byID[id] != nil
}

// removeUnservedHeaders removes header files of blocks that are no longer served, and at
// the first sync all other files, which a process left when it died.
func (g *Gateway) removeUnservedHeaders(first bool) {
	if g.env.HeaderDir == "" {
		return
	}
	files, err := os.ReadDir(g.env.HeaderDir)
	if err != nil {
		g.log.Warn("reading the directory of index headers failed", "dir", g.env.HeaderDir, "err", err)
		return
	}
	for _, f := range files {
		if id, ok := bucketblock.HeaderID(f.Name()); ok && g.blocks.byID[id] != nil || !ok && !first {
			continue
		}
		if err := os.Remove(filepath.Join(g.env.HeaderDir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.log.Warn("removing an unused index header failed", "file", f.Name(), "err", err)
		}
	}
}

func (g *Gateway) unloadIdle(now time.Time) {
	g.mu.RLock()
	byID := g.blocks.byID // never written to after swap
	g.mu.RUnlock()
	for id, b := range byID {
		if err := b.UnloadIdle(now.Add(-g.cfg.IndexHeaderIdleTimeout)); err != nil {
			g.log.Warn("unloading an idle index header failed", "block", id, "err", err)
		}
	}
}

// close releases all blocks; their header files stay for the next start.
func (g *Gateway) close() {
	g.mu.Lock()
	all := g.blocks.byID
	g.blocks = blocks{selector: g.blocks.selector}
	g.mu.Unlock()
	errs := []error{g.pages.Close()}
	if g.env.Columns != nil {
		errs = append(errs, g.env.Columns.Close())
	}
	for _, b := range all {
		errs = append(errs, b.Keep())
	}
	if err := errors.Join(errs...); err != nil {
		g.log.Warn("closing of blocks failed", "err", err)
	}
}
