package blocks

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

// write makes a block of two series with a sample every ten milliseconds.
func write(t *testing.T, dir string, mint, maxt int64) Block {
	t.Helper()
	head := t.TempDir()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), head, 1_000_000)
	require.NoError(t, err)
	app := w.Appender(t.Context())
	for now := mint; now < maxt; now += 10 {
		for i := range 2 {
			_, err := app.Append(0, labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), now, float64(now))
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	id, err := w.Flush(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.Rename(filepath.Join(head, id.String()), filepath.Join(dir, id.String())))
	return Block{ID: id, MinTime: mint, MaxTime: maxt}
}

// read returns the times of the series i="1", in the order of the chunks.
func read(t *testing.T, v *View, mint, maxt int64) (times []int64) {
	t.Helper()
	q, err := v.ChunkQuerier(mint, maxt)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, &storage.SelectHints{Start: mint, End: maxt}, labels.MustNewMatcher(labels.MatchEqual, "i", "1"))
	var it chunks.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() {
			samples := it.At().Chunk.Iterator(nil)
			for samples.Next() != chunkenc.ValNone {
				times = append(times, samples.AtT())
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	require.NoError(t, q.Close())
	return times
}

func steps(mint, maxt int64) (out []int64) {
	for t := mint; t < maxt; t += 10 {
		out = append(out, t)
	}
	return out
}

func TestView_StaysUntilRelease(t *testing.T) {
	path := t.TempDir()
	d := NewDir(path, slog.New(slog.DiscardHandler))
	defer d.Close()
	require.Nil(t, d.Acquire())

	a, b, c := write(t, path, 0, 1000), write(t, path, 1000, 2000), write(t, path, 1500, 2500)
	d.Update([]Block{b, a}, 2000)
	old := d.Acquire()
	require.Equal(t, int64(2000), old.End())
	start, err := old.StartTime()
	require.NoError(t, err)
	require.Equal(t, int64(0), start)
	require.Equal(t, steps(0, 2000), read(t, old, 0, 1999))
	require.Equal(t, steps(0, 1000), read(t, old, 0, 999), "one block")
	require.Empty(t, read(t, old, 5000, 6000))

	// The old view stays as it is, the new one joins overlapping blocks.
	d.Update([]Block{a, b, c}, 2500)
	require.NoError(t, os.RemoveAll(filepath.Join(path, a.ID.String())))
	view := d.Acquire()
	require.Equal(t, steps(0, 2500), read(t, view, 0, math.MaxInt64))
	require.Equal(t, steps(0, 2000), read(t, old, 0, 1999))

	// A block that is gone moves the end before it; open ones are kept.
	d.Update([]Block{b, {ID: ulid.MustParse("01BX5ZZKBKACTAV9WEVGEMMVRZ"), MinTime: 1500, MaxTime: 2500}}, 2500)
	last := d.Acquire()
	require.Equal(t, int64(1500), last.End())
	require.Equal(t, steps(1000, 2000), read(t, last, 0, math.MaxInt64))

	q, err := old.ChunkQuerier(0, math.MaxInt64)
	require.NoError(t, err)
	old.Release()
	require.Equal(t, 1, old.refs, "a querier holds its view")
	require.NoError(t, q.Close())
	require.Zero(t, old.refs)
	require.Equal(t, steps(0, 2500), read(t, view, 0, math.MaxInt64), "a block is closed with its last view")
	held := view.blocks[0]
	view.Release()
	require.Zero(t, held.views)
	_, err = held.Index()
	require.ErrorIs(t, err, tsdb.ErrClosing)
	last.Release()
}

func TestUpdate_ReopensBlockWithNewTombstones(t *testing.T) {
	path := t.TempDir()
	d := NewDir(path, slog.New(slog.DiscardHandler))
	defer d.Close()
	b := write(t, path, 0, 1000)
	d.Update([]Block{b}, 1000)

	// The owner deletes samples: the file of tombstones changes.
	owner, err := tsdb.OpenBlock(nil, filepath.Join(path, b.ID.String()), nil, nil)
	require.NoError(t, err)
	require.NoError(t, owner.Delete(t.Context(), 0, 499, labels.MustNewMatcher(labels.MatchEqual, "i", "1")))
	require.NoError(t, owner.Close())

	d.Update([]Block{b}, 1000)
	v := d.Acquire()
	defer v.Release()
	require.Equal(t, steps(500, 1000), read(t, v, 0, math.MaxInt64))
}
