package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const twoWeeks = 14 * 24 * hour

// openBucket opens the bucket of the site with a new client.
func openBucket(t *testing.T, s *harness.Site) bucket.Bucket {
	t.Helper()
	t.Setenv("S3_ACCESS_KEY", harness.S3AccessKey)
	t.Setenv("S3_SECRET_KEY", harness.S3SecretKey)
	raw, err := os.ReadFile(s.Path("objstore.yml"))
	require.NoError(t, err)
	content, err := flags.ExpandEnv(raw)
	require.NoError(t, err)
	bkt, err := provider.Open(context.Background(), content, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bkt.Close()) })
	return bkt
}

// uploadBlocks puts blocks of length into the bucket, from mint up to maxt, one
// for each of two replicas whose scrapes are 7 s apart.
func uploadBlocks(t *testing.T, bkt bucket.Bucket, mint, maxt, length int64, ms []metric) {
	t.Helper()
	dir := t.TempDir()
	for at := mint; at < maxt; at += length {
		for i, replica := range []string{"a", "b"} {
			id := writeBlock(t, dir, at, at+length, 60_000, int64(i)*7000, ms)
			blockDir := filepath.Join(dir, id.String())
			meta, err := block.ReadMetaDir(blockDir)
			require.NoError(t, err)
			meta.MinTime, meta.MaxTime = at, at+length
			meta.Thanos.Labels = map[string]string{"cluster": "old", "replica": replica}
			meta.Thanos.Source = block.SourceSidecar
			require.NoError(t, block.WriteMetaDir(blockDir, meta))
			_, err = block.Upload(context.Background(), bkt, blockDir, block.UploadConfig{})
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(blockDir))
		}
	}
}

// kind is the resolution, length and state of a block.
type kind struct {
	hours, resolution int64
	replica           string
}

// blocks counts the blocks of the bucket by kind: those in use and those marked
// for deletion.
func blocks(t *testing.T, bkt bucket.Bucket) (live, marked map[kind]int) {
	t.Helper()
	view, err := blocklist.NewPoller(bkt, blocklist.Config{}).Poll(context.Background())
	require.NoError(t, err)
	require.Empty(t, view.Partial)
	live, marked = map[kind]int{}, map[kind]int{}
	for id, m := range view.Metas {
		into := live
		if view.Deletion[id] != nil {
			into = marked
		}
		into[kind{(m.MaxTime - m.MinTime) / hour, m.Resolution(), m.Thanos.Labels["replica"]}]++
		require.NotEqual(t, ulid.ULID{}, m.ULID)
	}
	return live, marked
}

// The compactor merges 2 h blocks to 8 h, 2 d and 14 d, removes replicas, and
// makes 5 m and 1 h blocks; answers over these agree with the raw data.
func TestCompact(t *testing.T) {
	s := newSite(t)
	s.Endpoints = []string{"store"}
	require.NoError(t, s.Start("s3"))
	bkt := openBucket(t, s)
	ms := []metric{{name: "old_gauge"}, {name: "old_total", counter: true}}
	base := (time.Now().UnixMilli()/twoWeeks - 1) * twoWeeks
	uploadBlocks(t, bkt, base, base+48*hour, twoHours, ms)
	uploadBlocks(t, bkt, base+48*hour, base+twoWeeks, 48*hour, ms)
	uploadBlocks(t, bkt, base+twoWeeks, base+twoWeeks+twoHours, twoHours, ms)

	env := []string{"S3_ACCESS_KEY=" + harness.S3AccessKey, "S3_SECRET_KEY=" + harness.S3SecretKey}
	p, err := harness.StartEnv(s.Dir, env, "compact", bin.Hindsight, "compact",
		"--http-address="+s.Addr("compact"), "--data-dir="+s.Path("compact"), "--consistency-delay=0s",
		"--objstore.config-file="+s.Path("objstore.yml"), "--deduplication.func=penalty", "--deduplication.replica-label=replica")
	require.NoError(t, err)
	code, err := p.Wait(5 * time.Minute)
	require.NoError(t, err, p.Tail(30))
	require.Zero(t, code, p.Tail(30))

	live, marked := blocks(t, bkt)
	require.Equal(t, map[kind]int{
		{14 * 24, 0, ""}: 1, {14 * 24, block.Resolution5m, ""}: 1, {14 * 24, block.Resolution1h, ""}: 1,
		{2, 0, ""}: 1, // the newest, with only its replicas removed
	}, live, p.Tail(60))
	require.NotZero(t, marked[kind{8, 0, ""}], "2 h became 8 h: %v", marked)
	require.NotZero(t, marked[kind{48, 0, ""}], "8 h became 2 d: %v", marked)
	require.Equal(t, 25, marked[kind{2, 0, "a"}], "every source is marked once its successor is there")
	require.Equal(t, 25, marked[kind{2, 0, "b"}])

	require.NoError(t, s.Start("store", "query"))
	compareResolutions(t, s, base)
}

// compareResolutions evaluates the same queries over raw, 5 m and 1 h data.
func compareResolutions(t *testing.T, s *harness.Site, base int64) {
	t.Helper()
	api := func(resolution string) harness.API {
		return harness.API{Base: s.URL("query"), Params: url.Values{"max_source_resolution": {resolution}}}
	}
	start, end := time.UnixMilli(base+24*hour), time.UnixMilli(base+13*24*hour)
	const step = 6 * time.Hour
	for _, res := range []struct {
		name   string
		ms     int64
		points float64
	}{{"5m", block.Resolution5m, 288}, {"1h", block.Resolution1h, 24}} {
		// The gauges move at most 125 in 10,000 s, so one value of a window
		// differs from another by at most this.
		move := 125*float64(res.ms)/1e7 + 0.125
		for _, q := range []struct {
			expr      string
			tolerance float64
		}{
			{`rate(old_total[1d])`, 0.05},
			{`sum(old_gauge)`, 3 * move},
			{`old_gauge`, move},
			{`max_over_time(old_gauge[1d])`, move},
			{`min_over_time(old_gauge[1d])`, move},
			{`sum by (series) (increase(old_total[2d]))`, 0.05 * 48 * 3600},
		} {
			raw, err := api("0s").Range(q.expr, start, end, step)
			require.NoError(t, err)
			coarse, err := api(res.name).Range(q.expr, start, end, step)
			require.NoError(t, err)
			require.NoError(t, agree(raw, coarse, q.tolerance), "%s at %s", q.expr, res.name)
		}
		// Samples are counted, not windows: raw has 1,440 a day.
		n, _, err := value(api(res.name), fmt.Sprintf(`max(count_over_time(old_gauge[1d] @ %d))`, end.Unix()))
		require.NoError(t, err)
		samples, err := strconv.ParseFloat(n, 64)
		require.NoError(t, err)
		require.InDelta(t, 1440, samples, 1440/res.points+1)
		// Proof that coarse data was read: a range shows its windows.
		windows, err := api(res.name).Instant(`old_gauge[1d]`, end)
		require.NoError(t, err)
		require.NotEmpty(t, windows.Series)
		require.InDelta(t, res.points, len(windows.Series[0].Samples), 1)
	}
}

func agree(a, b harness.Answer, tolerance float64) error {
	if len(a.Series) == 0 || len(a.Series) != len(b.Series) {
		return fmt.Errorf("%d and %d series", len(a.Series), len(b.Series))
	}
	for i := range a.Series {
		x, y := a.Series[i], b.Series[i]
		if x.Key() != y.Key() || len(x.Samples) != len(y.Samples) {
			return fmt.Errorf("series %s with %d samples, and %s with %d", x.Key(), len(x.Samples), y.Key(), len(y.Samples))
		}
		for j := range x.Samples {
			v, err := strconv.ParseFloat(x.Samples[j].V, 64)
			if err != nil {
				return err
			}
			w, err := strconv.ParseFloat(y.Samples[j].V, 64)
			if err != nil {
				return err
			}
			if d := v - w; d > tolerance || d < -tolerance || x.Samples[j].T != y.Samples[j].T {
				return fmt.Errorf("series %s at %v: %v and %v", x.Key(), x.Samples[j].T, v, w)
			}
		}
	}
	return nil
}
