package compact_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// withColumns returns a bucket with the blocks of a text, each with a columns object.
func withColumns(t *testing.T, text string) bucket.Bucket {
	t.Helper()
	spec, err := blocktest.Parse(text)
	require.NoError(t, err)
	b, dir := bucket.NewMemory(), blocktest.Dir(t, text)
	for _, blk := range spec.Blocks {
		_, err := block.Upload(t.Context(), b, filepath.Join(dir, blk.Meta.ULID.String()), block.UploadConfig{Columns: true})
		require.NoError(t, err)
	}
	require.Len(t, columnsOf(t, b), len(spec.Blocks))
	return b
}

// columnsOf returns the blocks that have a columns object.
func columnsOf(t *testing.T, b bucket.Bucket) (ids []ulid.ULID) {
	t.Helper()
	for _, name := range list(t, b) {
		if id, rel, ok := block.ParsePath(name); ok && strings.HasPrefix(rel, "columns-v1-") {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestRunOnce_DeletesColumnsWithTheirBlock merges blocks that have columns objects: what it makes has
// none, and they go with their blocks.
func TestRunOnce_DeletesColumnsWithTheirBlock(t *testing.T) {
	b := withColumns(t, twoHours(5, "a", `{cluster="eu"}`))
	before := content(t, b)
	c := newCompactor(t, b, "--downsampling.disable", "--delete-delay=0s")
	for range 3 {
		require.NoError(t, c.RunOnce(t.Context()))
	}
	require.Equal(t, []string{
		`0..8h res=0 level=2 samples=2404 series=6 {cluster="eu"}`,
		`8..10h res=0 level=1 samples=601 series=3 {cluster="eu"}`,
	}, live(t, b))
	require.Equal(t, before, content(t, b))
	require.Equal(t, []ulid.ULID{blocktest.ID("a004")}, columnsOf(t, b))
	objects := 0
	for _, name := range list(t, b) {
		if _, _, ok := block.ParsePath(name); ok {
			objects++
		}
	}
	require.Equal(t, 3+4, objects, "those of two blocks, of which one has columns")
}

// TestRunOnce_RemovesDeletedSeriesFromColumns rewrites a block for a deletion request: the samples are
// not left in a columns object.
func TestRunOnce_RemovesDeletedSeriesFromColumns(t *testing.T) {
	b := withColumns(t, `
block fresh range=48h..50h labels={cluster="eu"}
  secret{user="bob"}   48h..50h/1m:1+1
  up{job="x"}          48h..50h/1m:1+1
block other range=48h..50h labels={cluster="us"}
  secret{user="bob"}   48h..50h/1m:1+1
`)
	request(t, b, deletion.Options{Selectors: []string{`{user="bob",cluster="eu"}`}})
	c := newCompactor(t, b, "--downsampling.disable", "--delete-delay=0s")
	for range 3 {
		require.NoError(t, c.RunOnce(t.Context()))
	}
	require.False(t, contains(t, b, "bob", "eu", true))
	require.True(t, contains(t, b, "up", "eu", false))
	require.Equal(t, []ulid.ULID{blocktest.ID("other")}, columnsOf(t, b))
}
