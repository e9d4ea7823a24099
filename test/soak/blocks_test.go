package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// checker is one of blocks over a directory as a bucket.
func checker(t *testing.T, l *ledger) *blocks {
	t.Helper()
	bucket, keep := t.TempDir(), t.TempDir()
	return newBlocks(bucket, keep, []*ledger{l})
}

// put writes a block of the steps from n to end into the bucket; change may alter its meta.
func put(t *testing.T, b *blocks, n, end int, change func(m *block.Meta)) ulid.ULID {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, b.ledgers[0].writeBlock(t.Context(), dir, n, end))
	made, err := filepath.Glob(filepath.Join(dir, "*", block.MetaFile))
	require.NoError(t, err)
	require.Len(t, made, 1)
	from := filepath.Dir(made[0])
	m, err := block.ReadMetaDir(from)
	require.NoError(t, err)
	m.Thanos.Labels, m.Thanos.Source = map[string]string{"tenant_id": "red"}, block.SourceReceive
	if change != nil {
		change(m)
	}
	require.NoError(t, block.WriteMetaDir(from, m))
	require.NoError(t, os.Rename(from, filepath.Join(b.bucket, m.ULID.String())))
	return m.ULID
}

// see checks a block.
func (b *blocks) see(t *testing.T, id ulid.ULID) error {
	t.Helper()
	if _, err := b.add(id); err != nil {
		return err
	}
	return b.check(<-b.queue)
}

func merged(parents ...ulid.ULID) func(m *block.Meta) {
	return func(m *block.Meta) {
		m.Compaction.Level, m.Compaction.Sources = 2, parents
		for _, p := range parents {
			m.Compaction.Parents = append(m.Compaction.Parents, tsdb.BlockDesc{ULID: p})
		}
	}
}

func TestBlocks_ChecksOriginOfMergedBlocks(t *testing.T) {
	l := newLedger(newStream("red", "", 0, 60_000, 3))
	b := checker(t, l)
	one, two := put(t, b, 0, 100, nil), put(t, b, 100, 200, nil)
	require.NoError(t, b.see(t, one))
	require.NoError(t, b.see(t, two))
	require.NoError(t, b.see(t, put(t, b, 0, 200, merged(one, two))))
	require.ErrorContains(t, b.see(t, put(t, b, 0, 195, merged(one, two))), "lost the sample at 1970-01-01T03:15")
	require.ErrorContains(t, b.see(t, put(t, b, 0, 200, merged(one))), "that its sources do not have")
	require.ErrorContains(t, b.see(t, put(t, b, 0, 200, merged(one, two, id(9)))), "was never seen")
}

func TestBlocks_FindsUnsoundBlocks(t *testing.T) {
	l := newLedger(newStream("red", "", 0, 60_000, 3))
	b := checker(t, l)
	for name, c := range map[string]struct {
		hurt func(dir string) error
		err  string
	}{
		"no index":    {func(dir string) error { return os.Remove(filepath.Join(dir, "index")) }, "not whole"},
		"no chunks":   {func(dir string) error { return os.Remove(filepath.Join(dir, "chunks", "000001")) }, "I4"},
		"wrong bytes": {func(dir string) error { return flip(filepath.Join(dir, "chunks", "000001")) }, "I4"},
		"wrong index": {func(dir string) error { return flip(filepath.Join(dir, "index")) }, "I4"},
	} {
		t.Run(name, func(t *testing.T) {
			id := put(t, b, 0, 100, nil)
			require.NoError(t, c.hurt(filepath.Join(b.bucket, id.String())))
			require.ErrorContains(t, b.see(t, id), c.err)
		})
	}
	other := newLedger(newStream("red", "", 0, 30_000, 3))
	other.tenant = "red"
	strange := checker(t, other)
	id := put(t, strange, 0, 100, nil)
	strange.ledgers[0] = l
	require.ErrorContains(t, strange.see(t, id), "I2")
	foreign := put(t, b, 0, 100, func(m *block.Meta) { m.Thanos.Labels["tenant_id"] = "green" })
	require.ErrorContains(t, b.see(t, foreign), "I3")
	parents := put(t, b, 0, 100, func(m *block.Meta) { m.Compaction.Sources = []ulid.ULID{foreign} })
	require.ErrorContains(t, b.see(t, parents), "its sources are")
}

func flip(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(file, b, 0o644)
}

func TestIndices_AreASet(t *testing.T) {
	var x, y indices
	for _, i := range []int{700, 3, 64, 699, 3} {
		x.add(i)
	}
	y.add(1)
	y.merge(x)
	var got []int
	y.each(func(i int) { got = append(got, i) })
	require.Equal(t, []int{1, 3, 64, 699, 700}, got)
	require.True(t, x.has(64))
	require.False(t, x.has(65))
	require.False(t, x.has(100_000))
}
