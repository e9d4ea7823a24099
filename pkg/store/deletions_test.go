package store

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// filesWith counts the files below a directory that have the text.
func filesWith(t *testing.T, dir, text string) (n int) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			n++
		}
		return err
	}))
	return n
}

// TestSync_ReportsCachesOfDeletions deletes a block, as the compactor does for a request,
// while a query reads it or while no gateway runs. Its bytes leave the disk, and the
// report says when.
func TestSync_ReportsCachesOfDeletions(t *testing.T) {
	for _, restart := range []bool{false, true} {
		ctx := t.Context()
		rng := rand.New(rand.NewPCG(1, 2))
		bkt := bucket.NewMemory()
		gone := writeBlock(t, rng, 0, 2*hour, 40, map[string]string{"cluster": "c"})
		gone.upload(t, bkt)
		writeBlock(t, rng, 2*hour, 4*hour, 1, map[string]string{"cluster": "c"}).upload(t, bkt)
		dir := t.TempDir()
		open := func() *Gateway {
			g := newGateway(t, bkt, "--data-dir="+dir, "--store.disk-cache-size=4MB")
			g.deps.Marks = bkt
			return g
		}
		g := open()
		r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
		require.NotEmpty(t, collect(t, g.Select(ctx, r), r))
		require.NotZero(t, filesWith(t, dir, "http_requests_total"))
		for range 7 { // until chunks are kept as columns
			columns := *r
			columns.Columns = true
			require.NotEmpty(t, collect(t, g.Select(ctx, &columns), &columns))
		}
		columns, id := filepath.Join(dir, columnsDir), string(gone.meta.ULID[:])
		require.NotZero(t, filesWith(t, columns, id))
		require.Contains(t, g.pages.Blocks(), gone.meta.ULID)

		c, err := deletion.New(deletion.Options{Selectors: []string{`{__name__="http_requests_total"}`}, MinTime: 0, MaxTime: hour, Keep: time.Hour}, time.Now().Add(-time.Second))
		require.NoError(t, err)
		require.NoError(t, deletion.Put(ctx, bkt, c))
		report := func() deletion.NodeReport {
			_, err := g.deletions.Poll(ctx)
			require.NoError(t, err)
			require.NoError(t, g.sync(ctx))
			e, err := deletion.Get(ctx, bkt, c.ID)
			require.NoError(t, err)
			ns, err := deletion.Nodes(ctx, bkt, e)
			require.NoError(t, err)
			require.Len(t, ns, 1)
			require.Equal(t, deletion.RoleStore, ns[0].Role)
			return ns[0]
		}
		require.True(t, report().Waiting)
		require.NotZero(t, filesWith(t, dir, "http_requests_total"), "the block is served")

		held := g.blocks.byID[gone.meta.ULID]
		require.True(t, held.Acquire())
		if restart {
			g.close()
		}
		require.NoError(t, block.Delete(ctx, bkt, gone.meta.ULID))
		require.NoError(t, deletion.MarkDone(ctx, bkt, c.ID, "", time.Now()))
		if restart {
			g = open()
		} else {
			n := report()
			require.False(t, n.Waiting)
			require.Equal(t, []any{gone.meta.ULID}, []any{n.Blocks[0]}, "a query reads it")
			require.NoError(t, held.Release())
		}
		n := report()
		require.False(t, n.Waiting)
		require.Empty(t, n.Blocks)
		require.NotContains(t, g.pages.Blocks(), gone.meta.ULID)
		require.Zero(t, filesWith(t, dir, "http_requests_total"))
		require.Zero(t, filesWith(t, columns, id))
		require.NotEmpty(t, g.Store())
	}
}
