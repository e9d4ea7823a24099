package store

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
)

// deletionReports tells in the bucket which deletion requests the caches of the gateway
// are clean of. A sync uses it.
type deletionReports struct {
	node string
	// reported is the last report on each request.
	reported map[ulid.ULID]deletion.NodeReport
	failing  bool // the last report could not be written
	// leaving are blocks that running queries read and that are no longer served.
	leaving []*bucketblock.Block
}

// maxReported bounds the blocks in a report.
const maxReported = 200

// newDeletionReports names the gateway by its host and data directory.
func newDeletionReports(dataDir string) deletionReports {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	if abs, err := filepath.Abs(dataDir); err == nil {
		dataDir = abs
	}
	return deletionReports{node: host + ":" + dataDir, reported: map[ulid.ULID]deletion.NodeReport{}}
}

// dropUnserved drops the pages of blocks that are not served, such as those that left the
// bucket while the process was down, and returns the blocks that stay in the caches for
// running queries.
func (g *Gateway) dropUnserved(gone []*bucketblock.Block) []ulid.ULID {
	d := &g.reports
	d.leaving = slices.DeleteFunc(append(d.leaving, gone...), func(b *bucketblock.Block) bool { return !b.InUse() })
	var left []ulid.ULID
	for _, b := range d.leaving {
		if !g.serves(b.Meta().ULID) {
			left = append(left, b.Meta().ULID)
		}
	}
	for _, id := range g.pages.Blocks() {
		if !g.serves(id) && !slices.Contains(left, id) {
			g.env.Forget(id)
		}
	}
	return left
}

// reportDeletions writes a report on each request that is made physical, when what it says
// has changed. entries were polled before the bucket was listed, at the time listed: when
// a request was done by then, the listing has no block with its samples, and left are all
// others in the caches.
func (g *Gateway) reportDeletions(ctx context.Context, entries []*deletion.Entry, listed time.Time, left []ulid.ULID) {
	if g.deps.Marks == nil {
		return
	}
	d := &g.reports
	left = left[:min(len(left), maxReported)]
	for _, e := range entries {
		if !e.Physical(listed) {
			continue
		}
		n := deletion.NodeReport{ID: e.ID, Node: d.node, Role: deletion.RoleStore, Time: listed.UTC(), Waiting: !e.Done}
		if e.Done {
			n.Blocks = left
		}
		if last, ok := d.reported[e.ID]; ok && last.Waiting == n.Waiting && slices.Equal(last.Blocks, n.Blocks) {
			continue
		}
		if err := deletion.PutNode(ctx, g.deps.Marks, n); err != nil {
			if ctx.Err() == nil && !d.failing {
				g.log.Warn("report on deletion not written; the status of the request does not know the caches of this gateway", "request", e.ID, "err", err)
			}
			d.failing = true
			return
		}
		d.reported[e.ID], d.failing = n, false
	}
}
