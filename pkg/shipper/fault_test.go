package shipper_test

import (
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/shipper"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// unreliable fails, loses answers, loses objects and truncates them, at random.
func unreliable(rnd *rand.Rand) func(buckettest.Op) buckettest.Fault {
	return func(op buckettest.Op) buckettest.Fault {
		switch rnd.Intn(20) {
		case 0:
			return buckettest.Fault{Err: buckettest.ErrInjected}
		case 1:
			return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: true}
		case 2:
			// meta.json is what makes a block visible: a bucket that keeps half
			// of it has no block, only an object that is no meta.json.
			return buckettest.Fault{Lost: op.Kind == "upload"}
		case 3:
			return buckettest.Fault{Short: op.Kind == "upload"}
		}
		return buckettest.Fault{}
	}
}

// visibleBlocks checks that every block that a reader sees is whole.
func visibleBlocks(t *testing.T, b bucket.Reader) int {
	t.Helper()
	v, err := blocklist.NewPoller(b, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	for id := range v.Metas {
		dir := filepath.Join(t.TempDir(), id.String())
		_, err := block.Download(t.Context(), b, id, dir, block.DownloadConfig{})
		require.NoError(t, err)
		_, err = block.Verify(t.Context(), dir)
		require.NoError(t, err)
	}
	return len(v.Metas)
}

// The blocks that a reader sees are whole at any time, and in the end all are there.
func TestSync_ShipsAllToUnreliableBucket(t *testing.T) {
	for seed := range int64(15) {
		rnd := rand.New(rand.NewSource(seed))
		e := newEnv(t, three)
		e.bkt.SetRule(unreliable(rnd))
		var s *shipper.Shipper
		shipped := false
		for pass := 0; pass < 100 && !shipped; pass++ {
			if s == nil || rnd.Intn(4) == 0 {
				s = e.restarted(shipper.Config{Columns: seed%2 == 0}) // a crash, or a new version
			}
			_, err := s.Sync(t.Context())
			shipped = err == nil
			visibleBlocks(t, e.mem)
		}
		require.True(t, shipped, "seed %d", seed)
		require.Equal(t, 3, visibleBlocks(t, e.mem), "seed %d", seed)

		// Deletion takes a block out of sight first, whatever happens.
		for range 100 {
			if block.Delete(t.Context(), e.bkt, id("b")) == nil {
				break
			}
			visibleBlocks(t, e.mem)
		}
		require.Equal(t, 2, visibleBlocks(t, e.mem), "seed %d", seed)
	}
}

// After the failure of each change, once or as when the process is killed there, the
// next process uploads nothing twice, and its state file lists all.
func TestSync_KeepsStateAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		e := newEnv(t, three)
		_, err := e.shipper(shipper.Config{}).Sync(t.Context())
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(filepath.Join(e.dir, id("a").String()))) // the state changes
		before := listed(t, e.dir)

		s := shipper.New(shipper.Config{Dir: e.dir}, shipper.Deps{Bucket: e.bkt, Labels: extLabels, FS: fsys})
		_, err = s.Sync(t.Context())
		want := []ulid.ULID{id("b"), id("c")}
		if fsys.Failed() != "" {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		}
		if now := listed(t, e.dir); len(now) != len(want) {
			require.Equal(t, before, now, "the file has the old content or the new")
		}
		for _, uid := range want {
			require.True(t, s.Shipped(uid), "a failure of the file does not change what is in the bucket")
		}

		e.bkt.Calls(true)
		n, err := e.restarted(shipper.Config{}).Sync(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
		require.Empty(t, order(t, e))
		require.Equal(t, want, listed(t, e.dir))
		left, err := filepath.Glob(filepath.Join(e.dir, "*.tmp"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// The first upload, with failures of the file system.
func TestSync_UploadsAfterEachFailure(t *testing.T) {
	withoutColumns := 0.0
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		e := newEnv(t, "block a range=0s..2h\n up 0s..2h/1m:1+1\n")
		reg := prometheus.NewRegistry()
		_, err := shipper.New(shipper.Config{Dir: e.dir, Columns: true}, shipper.Deps{
			Bucket: e.bkt, Labels: extLabels, FS: fsys, Metrics: shipper.NewMetrics(reg),
		}).Sync(t.Context())
		failures := counter(t, reg, "hindsight_shipper_columns_failures_total")
		if fsys.Failed() != "" && failures == 0 {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		}
		withoutColumns += failures
		_, err = e.restarted(shipper.Config{}).Sync(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, visibleBlocks(t, e.mem))
		require.Equal(t, []string{"a"}, order(t, e), "once")
		require.Equal(t, []ulid.ULID{id("a")}, listed(t, e.dir))
		require.DirExists(t, filepath.Join(e.dir, id("a").String()))
	})
	require.Positive(t, withoutColumns)
}
