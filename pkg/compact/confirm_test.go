package compact_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// flipOnce damages the first download of an object on its way.
func flipOnce(name string) func(buckettest.Op) buckettest.Fault {
	var done atomic.Bool
	return func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get_range" && op.Name == name && done.CompareAndSwap(false, true) {
			return buckettest.Fault{Flip: 12}
		}
		return buckettest.Fault{}
	}
}

// TestConfirm_DamagedDownloadIsNotBlamed damages one download of an index. The
// block in the bucket is sound, so it is neither marked nor quarantined.
func TestConfirm_DamagedDownloadIsNotBlamed(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	name := block.Path(blocktest.ID("a001"), block.IndexFile)
	faulty := buckettest.NewFaulty(b, flipOnce(name))
	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t), compact.Deps{Bucket: faulty, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)

	err = c.RunOnce(context.Background())
	require.ErrorContains(t, err, "is damaged in the work directory but not in the bucket")
	require.Empty(t, block.ReasonOf(err))
	require.Empty(t, quarantined(t, reg))
	require.Empty(t, poll(t, b).NoCompact)

	require.NoError(t, c.RunOnce(context.Background()))
	require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0 level=2")
}

// removing removes the local index of the result when the last block is read, as a
// second process in the same directory would.
type removing struct {
	bucket.Bucket
	dir, last string
	done      atomic.Bool
}

func (r *removing) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if name == r.last && r.done.CompareAndSwap(false, true) {
		files, _ := filepath.Glob(filepath.Join(r.dir, "compact", "*", "*", block.IndexFile))
		for _, f := range files {
			_ = os.Remove(f)
		}
	}
	return r.Bucket.GetRange(ctx, name, off, length)
}

// TestMerge_LocalErrorIsNotBlamed removes local files under a merge.
func TestMerge_LocalErrorIsNotBlamed(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	cfg := config(t)
	reg := prometheus.NewRegistry()
	rb := &removing{Bucket: b, dir: cfg.DataDir, last: block.Path(blocktest.ID("a003"), block.SegmentName(1))}
	c, err := compact.New(cfg, compact.Deps{Bucket: rb, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)

	err = c.RunOnce(context.Background())
	require.ErrorContains(t, err, "in the work directory")
	require.True(t, rb.done.Load())
	require.Empty(t, quarantined(t, reg))
	require.Empty(t, poll(t, b).NoCompact)
	require.NoError(t, c.RunOnce(context.Background()))
	require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0 level=2")
}

// TestMerge_EmptyObjectIsBlamed keeps telling damage of the object from errors of
// local files.
func TestMerge_EmptyObjectIsBlamed(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	id := blocktest.ID("a001")
	change(t, b, id, block.IndexFile, func([]byte) []byte { return []byte{} })
	change(t, b, id, block.MetaFile, func(data []byte) []byte {
		m, err := block.ParseMeta(data)
		require.NoError(t, err)
		m.Thanos.Files = nil // so that no recorded size tells
		data, err = m.Encode()
		require.NoError(t, err)
		return data
	})
	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	require.ErrorContains(t, c.RunOnce(context.Background()), "is empty")
	require.Equal(t, map[string]string{id.String(): "index_corrupt"}, quarantined(t, reg))
	require.Contains(t, poll(t, b).NoCompact, id)
}
