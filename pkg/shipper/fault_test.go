package shipper_test

import (
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

// unreliable fails, loses answers, loses objects and cuts them, each at times.
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

// TestOnUnreliableBucket ships to a bucket that does wrong in every way. What a
// reader sees is whole at any time, and in the end everything is there.
func TestOnUnreliableBucket(t *testing.T) {
	for seed := range int64(15) {
		rnd := rand.New(rand.NewSource(seed))
		e := newEnv(t, three)
		e.bkt.SetRule(unreliable(rnd))
		var s *shipper.Shipper
		shipped := false
		for pass := 0; pass < 100 && !shipped; pass++ {
			if s == nil || rnd.Intn(4) == 0 {
				s = e.restarted(shipper.Config{}) // a crash, or a new version
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
