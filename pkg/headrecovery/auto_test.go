package headrecovery

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// auto returns an Auto for heads that are an hour old.
func auto(t *testing.T, bkt bucket.Bucket, reg prometheus.Registerer, log *bytes.Buffer) *Auto {
	return NewAuto(AutoConfig{
		Config: Config{Bucket: bkt, WorkDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(log, nil))},
		After:  time.Hour, Owner: "one",
	}, reg)
}

// pass makes one pass and returns the number of blocks in the bucket.
func pass(t *testing.T, a *Auto, bkt bucket.Bucket) int {
	t.Helper()
	_, err := a.Pass(t.Context(), nil)
	require.NoError(t, err)
	blocks, _ := content(t, bkt)
	return len(blocks)
}

func TestAuto_RecoversOnlyWhatIsOldEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bkt := bucket.NewMemory()
		counted := buckettest.NewFaulty(bkt, func(buckettest.Op) buckettest.Fault { return buckettest.Fault{} })
		reg := prometheus.NewRegistry()
		var log bytes.Buffer
		a := auto(t, counted, reg, &log)
		ship(t, bkt, external, genID, testLogs())
		time.Sleep(59 * time.Minute)
		require.Zero(t, pass(t, a, bkt))
		require.Zero(t, counted.Count("upload"), "a bucket without old heads is not written to")
		time.Sleep(2 * time.Minute)
		require.Equal(t, 3, pass(t, a, bkt))
		_, others := content(t, bkt)
		require.Equal(t, []string{"hindsight/heads-v1/clock"}, others)
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP hindsight_store_heads_recovered_samples_total Samples of head logs that were written into blocks.
# TYPE hindsight_store_heads_recovered_samples_total counter
hindsight_store_heads_recovered_samples_total 632
# HELP hindsight_store_heads_waiting Head logs in the bucket whose Prometheus is gone and which are not recovered yet, damaged ones included.
# TYPE hindsight_store_heads_waiting gauge
hindsight_store_heads_waiting 0
`), "hindsight_store_heads_recovered_samples_total", "hindsight_store_heads_waiting"))
		require.Equal(t, 3, pass(t, a, bkt))
	})
}

// Listings of some providers have no times.
func TestAuto_LeavesYoungHeadWhoseListingHasNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := bucket.NewMemory()
		bkt := &timeless{mem}
		var log bytes.Buffer
		a := auto(t, bkt, nil, &log)
		dir := ship(t, mem, external, genID, testLogs())
		time.Sleep(50 * time.Minute)
		ship(t, mem, external, genID, testLogs())
		time.Sleep(50 * time.Minute)
		require.Zero(t, pass(t, a, mem))
		time.Sleep(20 * time.Minute)
		require.Equal(t, 3, pass(t, a, mem))
		// The pass also removes a head that a killed recovery has left.
		require.NoError(t, putJSON(t.Context(), mem, dir+"/"+recoveredName, recovered{Version: 1, Seq: 3}))
		time.Sleep(2 * time.Hour)
		pass(t, a, mem)
		_, others := content(t, mem)
		require.Equal(t, []string{"hindsight/heads-v1/clock"}, others)
	})
}

// timeless is a bucket whose listings have neither times nor sizes.
type timeless struct{ bucket.Bucket }

func (b *timeless) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return b.Bucket.List(ctx, dir, func(o bucket.Object) error { return f(bucket.Object{Name: o.Name, Size: -1}) })
}

// An older head of a source that lives on may become a block of its Prometheus.
func TestAuto_WaitsLongerForTheOlderHeadOfALivingSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bkt := bucket.NewMemory()
		var log bytes.Buffer
		a := auto(t, bkt, nil, &log)
		ship(t, bkt, external, genID, testLogs())
		newer := ulid.MustNew(genID.Time()+1, nil)
		for range 8 {
			require.Zero(t, pass(t, a, bkt))
			time.Sleep(30 * time.Minute)
			ship(t, bkt, external, newer, testLogs()[:3])
		}
		require.Equal(t, 3, pass(t, a, bkt))
		heads, err := list(t.Context(), bkt, "hindsight/heads-v1")
		require.NoError(t, err)
		require.Len(t, heads, 1)
		require.Equal(t, newer, heads[0].ID)
	})
}

// The clock of the bucket decides, and the one of this machine may be wrong.
func TestAuto_MeasuresAgeByTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bkt := bucket.NewMemory()
		late := buckettest.NewFaulty(bkt, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "stat" && strings.HasSuffix(op.Name, "/clock") {
				bkt.SetModified(op.Name, time.Now().Add(-3*time.Hour))
			}
			return buckettest.Fault{}
		})
		var log bytes.Buffer
		a := auto(t, late, nil, &log)
		ship(t, bkt, external, genID, testLogs())
		time.Sleep(3*time.Hour + 30*time.Minute)
		require.Zero(t, pass(t, a, bkt))
		time.Sleep(time.Hour)
		require.Equal(t, 3, pass(t, a, bkt))
	})
}

func TestAuto_OneOfSeveralRecoversAHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bkt := bucket.NewMemory()
		var log bytes.Buffer
		ship(t, bkt, external, genID, testLogs())
		time.Sleep(2 * time.Hour)
		heads, err := list(t.Context(), bkt, "hindsight/heads-v1")
		require.NoError(t, err)
		mine, err := claim(t.Context(), bkt, heads[0], "other", time.Now())
		require.NoError(t, err)
		require.True(t, mine)
		a := auto(t, bkt, nil, &log)
		require.Zero(t, pass(t, a, bkt))
		time.Sleep(claimFor + time.Minute)
		require.Equal(t, 3, pass(t, a, bkt), "the other one has died")
	})
}

func TestAuto_SaysOnceThatTheBucketIsReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := bucket.NewMemory()
		bkt := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" || op.Kind == "delete" {
				return buckettest.Fault{Err: bucket.ErrAccessDenied}
			}
			return buckettest.Fault{}
		})
		var log bytes.Buffer
		a := auto(t, bkt, nil, &log)
		ship(t, mem, external, genID, testLogs())
		time.Sleep(2 * time.Hour)
		for range 3 {
			require.Zero(t, pass(t, a, mem))
		}
		require.Equal(t, 1, strings.Count(log.String(), "not writable"))
	})
}

// A head that cannot be recovered does not stop the others.
func TestAuto_GoesOnAfterAHeadThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bkt := bucket.NewMemory()
		var log bytes.Buffer
		a := auto(t, bkt, nil, &log)
		a.cfg.Memory, a.cfg.MemoryFlag = 200, "--memory"
		ship(t, bkt, external, genID, testLogs())
		small := testLogs()
		small[0].series = small[0].series[:1]
		ship(t, bkt, external, ulid.MustNew(genID.Time()+1, nil), small)
		time.Sleep(5 * time.Hour)
		require.Equal(t, 3, pass(t, a, bkt))
		require.Contains(t, log.String(), "--memory")
	})
}
