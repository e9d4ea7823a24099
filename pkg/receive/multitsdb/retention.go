package multitsdb

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// blockAge is a block as retention sees it.
type blockAge struct {
	id       ulid.ULID
	maxTime  int64 // milliseconds
	merged   bool  // another block has its data
	oversize bool  // beyond the bound of bytes
	uploaded bool
}

// deletable returns the blocks to delete: those that another has replaced, those that
// end at least the retention (0 is for ever) before the newest one, those beyond
// the bound of bytes; but none that is not uploaded. The newest stays: it goes
// with the tenant.
func deletable(blocks []blockAge, retention time.Duration) map[ulid.ULID]struct{} {
	newest := int64(math.MinInt64)
	for _, b := range blocks {
		newest = max(newest, b.maxTime)
	}
	out := map[ulid.ULID]struct{}{}
	for _, b := range blocks {
		expired := retention > 0 && b.maxTime < newest && newest-b.maxTime >= retention.Milliseconds()
		if b.uploaded && (b.merged || expired || b.oversize) {
			out[b.id] = struct{}{}
		}
	}
	return out
}

// expired reports whether a tenant whose last write was at lastWrite, and whose
// head is empty, is past the retention altogether, with all its blocks.
func expired(blocks []blockAge, retention time.Duration, lastWrite, now int64) bool {
	horizon := now - retention.Milliseconds()
	if retention <= 0 || lastWrite > horizon {
		return false
	}
	return !slices.ContainsFunc(blocks, func(b blockAge) bool { return b.maxTime > horizon || !b.uploaded })
}

// retention returns the current retention of a tenant; 0 is for ever.
func (c *Config) retention(id string) time.Duration {
	if own := c.TenantRetention; own != nil {
		if d, ok := own(id); ok {
			return d
		}
	}
	return c.Retention
}

// blocksToDelete lets retention delete blocks; with a shipper only those that
// are in the bucket. The TSDB calls it whenever it looks at its blocks.
func (t *tenantDB) blocksToDelete(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	// The size counts from the newest.
	slices.SortFunc(blocks, func(a, b *tsdb.Block) int {
		return cmp.Compare(b.Meta().MaxTime, a.Meta().MaxTime)
	})
	var oversize map[ulid.ULID]struct{}
	if db := t.opened.Load(); db != nil {
		oversize = tsdb.BeyondSizeRetention(db, blocks)
	}
	ages := t.ages(blocks)
	for i := range ages {
		_, ages[i].oversize = oversize[ages[i].id]
	}
	return deletable(ages, t.cfg.retention(t.id))
}

func (t *tenantDB) ages(blocks []*tsdb.Block) []blockAge {
	out := make([]blockAge, len(blocks))
	for i, b := range blocks {
		m := b.Meta()
		out[i] = blockAge{
			id: m.ULID, maxTime: m.MaxTime, merged: m.Compaction.Deletable,
			// Without a bucket there is nothing to wait for.
			uploaded: t.shipper == nil || t.shipper.Shipped(m.ULID),
		}
	}
	return out
}

// prunable reports whether the tenant can be removed from this node: its newest
// sample is older than the retention, and everything is in the bucket.
func (t *tenantDB) prunable(now time.Time) bool {
	return t.db.Head().NumSeries() == 0 &&
		expired(t.ages(t.db.Blocks()), t.cfg.retention(t.id), t.lastWrite.Load(), now.UnixMilli())
}
