package multitsdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

func TestRetentionDecides(t *testing.T) {
	datadriven.RunTest(t, "testdata/retention.txt", func(t *testing.T, d *datadriven.TestData) string {
		hours := func(text string) time.Duration {
			v, err := time.ParseDuration(text)
			require.NoError(t, err, d.Pos)
			return v
		}
		var now, written string
		d.ScanArgs(t, "now", &now)
		d.ScanArgs(t, "written", &written)
		var blocks []blockAge
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			blocks = append(blocks, blockAge{
				id: ulid.ULID{f[0][0]}, maxTime: hours(f[1]).Milliseconds(),
				uploaded: slices.Contains(f, "uploaded"), merged: slices.Contains(f, "merged"), oversize: slices.Contains(f, "oversize"),
			})
		}
		retention := hours(d.CmdArgs[0].Key)
		gone, names := deletable(blocks, retention), []string{}
		for id := range gone {
			names = append(names, string(id[0]))
		}
		slices.Sort(names)
		if len(names) == 0 {
			names = []string{"nothing"}
		}
		tenant := "stays"
		if expired(blocks, retention, hours(written).Milliseconds(), hours(now).Milliseconds()) {
			tenant = "goes"
		}
		return fmt.Sprintf("goes: %s\ntenant: %s\n", strings.Join(names, " "), tenant)
	})
}

// stubborn is a shipper that a test can make fail.
type stubborn struct {
	Shipper
	fails *atomic.Bool
}

func (s stubborn) Sync(ctx context.Context) (int, error) {
	if s.fails.Load() {
		return 0, errors.New("the bucket is away")
	}
	return s.Shipper.Sync(ctx)
}

// shipped is a DB whose blocks go to a bucket, unless fails is set.
func shipped(t *testing.T, dir string, fails *atomic.Bool, change func(*Config)) (*DB, *bucket.Memory) {
	bkt := bucket.NewMemory()
	return openDB(t, dir, func(c *Config) {
		c.NewShipper = func(_, dir string, external func() labels.Labels) Shipper {
			return stubborn{shipper.New(shipper.Config{Dir: dir, Source: "receive"}, shipper.Deps{Bucket: bkt, Labels: external}), fails}
		}
		if change != nil {
			change(c)
		}
	}), bkt
}

// blocksOf are the blocks that are in the bucket.
func blocksOf(t *testing.T, bkt bucket.Reader) (n int) {
	require.NoError(t, bkt.List(t.Context(), "", func(o bucket.Object) error {
		if strings.HasSuffix(o.Name, "/meta.json") {
			n++
		}
		return nil
	}))
	return n
}

func TestRetentionOfTenants(t *testing.T) {
	var own atomic.Pointer[map[string]time.Duration]
	var away atomic.Bool
	own.Store(&map[string]time.Duration{"short": 2 * time.Hour, "forever": 0})
	away.Store(true)
	d, bkt := shipped(t, t.TempDir(), &away, func(c *Config) {
		c.Retention = 6 * time.Hour
		c.TenantRetention = func(id string) (time.Duration, bool) {
			v, ok := (*own.Load())[id]
			return v, ok
		}
	})
	ids := []string{"short", "usual", "forever"}
	width := 2 * time.Hour.Milliseconds()
	last := time.Now().UnixMilli() / width * width
	put := func(ts int64) {
		for _, id := range ids {
			require.NoError(t, write(t, d, id, float("x", ts, 1)))
		}
	}
	count := func() (n []int) {
		for _, id := range ids {
			n = append(n, len(d.opened(id).db.Blocks()))
		}
		return n
	}
	for i := range int64(6) {
		put(last - (5-i)*width)
	}
	require.Error(t, d.Flush(t.Context(), ""), "the bucket is away")
	require.Equal(t, []int{6, 6, 6}, count(), "nothing goes that is not in the bucket")
	require.Zero(t, blocksOf(t, bkt))

	away.Store(false)
	require.NoError(t, d.sync(t.Context()))
	require.Equal(t, 18, blocksOf(t, bkt))
	put(last + 1)
	require.NoError(t, d.Flush(t.Context(), ""))
	// The newest ends just after last, and the five full ones at last and 2 h
	// apart before it.
	require.Equal(t, []int{3, 5, 7}, count())
	require.Equal(t, 21, blocksOf(t, bkt), "the bucket has everything")

	own.Store(&map[string]time.Duration{"forever": 4 * time.Hour})
	put(last + 2)
	require.NoError(t, d.Flush(t.Context(), ""))
	require.Equal(t, []int{4, 6, 5}, count(), "a new retention holds at once")
}

func TestRetentionDecidesWhenATenantGoes(t *testing.T) {
	var own atomic.Int64
	var away atomic.Bool
	d, bkt := shipped(t, t.TempDir(), &away, func(c *Config) {
		c.Retention = 24 * time.Hour
		c.TenantRetention = func(string) (time.Duration, bool) { return time.Duration(own.Load()), own.Load() >= 0 }
	})
	now := time.Now()
	require.NoError(t, write(t, d, "a", float("x", now.UnixMilli(), 1)))
	away.Store(true)
	require.Error(t, d.Flush(t.Context(), ""))
	tn, later := d.opened("a"), now.Add(1000*time.Hour)
	own.Store(-1)
	require.False(t, tn.prunable(later), "its block is on this node alone")
	away.Store(false)
	require.NoError(t, d.sync(t.Context()))
	require.True(t, tn.prunable(later))
	own.Store(0)
	require.False(t, tn.prunable(later), "for ever")
	own.Store(int64(2000 * time.Hour))
	require.False(t, tn.prunable(later), "longer than the node's")
	own.Store(int64(900 * time.Hour))
	require.NoError(t, d.prune(tn, later))
	require.NoDirExists(t, tn.dir)
	require.Equal(t, 1, blocksOf(t, bkt))
}
