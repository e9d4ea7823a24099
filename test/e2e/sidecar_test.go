package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const (
	prometheusA = "prometheus-eu-a"
	sidecarA    = "sidecar-eu-a"
)

// headSite makes a site of one Prometheus that takes remote write, its sidecar, a store
// gateway and a querier. The Prometheus compacts shipped blocks. Nothing is started.
func headSite(t *testing.T) *harness.Site {
	t.Helper()
	s := newSite(t)
	config := "global:\n  scrape_interval: 15s\n  external_labels: {cluster: eu, replica: a}\n" +
		"storage:\n  tsdb:\n    out_of_order_time_window: 1h\n"
	require.NoError(t, os.WriteFile(s.Path(prometheusA+".yml"), []byte(config), 0o600))
	s.Extra[prometheusA] = []string{
		"--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage",
		"--storage.tsdb.max-block-duration=6h",
		"--storage.tsdb.delay-compact-file.path=" + s.Path(prometheusA, "thanos.shipper.json"),
	}
	s.Extra[sidecarA] = []string{"--shipper.head-interval=1s", "--prometheus.get_config_interval=1s"}
	s.Extra["store"] = []string{"--store.recover-heads-after=0", "--sync-block-duration=1s"}
	s.Endpoints = []string{sidecarA, "store"}
	return s
}

// pastStart is the start of a history that ends about now: a two-hour boundary.
func pastStart(hours int64) int64 {
	now := time.Now().UnixMilli()
	return now - now%twoHours - hours*hour
}

// A writer and a reader go on while Prometheus cuts, compacts and deletes blocks and
// both processes are killed: each answer without a warning has every acknowledged
// sample once. Then the data directory is lost with both processes, and all that
// Prometheus had answered comes back from the bucket.
func TestSidecar_KeepsWhatPrometheusHad(t *testing.T) {
	for _, every := range []bool{false, true} {
		name := "floats"
		if every {
			name = "histograms, exemplars and late samples"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepHistory(t, every)
		})
	}
}

func keepHistory(t *testing.T, every bool) {
	s := headSite(t)
	start := pastStart(14)
	h := newHistory(s.URL(prometheusA), start, every)
	require.NoError(t, s.Start("s3", prometheusA))
	require.NoError(t, h.write(start+hour/2))
	require.NoError(t, s.Start(sidecarA, "store", "query"))
	api := harness.API{Base: s.URL("query")}
	stop := watchHistory(t, api, h)

	require.NoError(t, h.write(start+4*hour)) // a block is cut
	seeAll(t, s, h, "after a block was cut")

	s.Proc(prometheusA).Kill()
	seeAll(t, s, h, "while Prometheus is down")
	require.NoError(t, s.Start(prometheusA))
	seeAll(t, s, h, "after Prometheus started again")

	s.Proc(sidecarA).Kill()
	require.NoError(t, h.write(start+5*hour))
	require.NoError(t, s.Start(sidecarA))
	seeAll(t, s, h, "after the sidecar was killed")

	writeWhileKilled(t, s, h, start+9*hour)
	require.NoError(t, h.write(start+9*hour+historyStep))
	eventually(t, time.Minute, func() error { return uploaded(t, s, start, start+6*hour) })
	// Prometheus reads once a minute which blocks are shipped, and compacts these: wherever the
	// history begins, six hours of them are followed by another block.
	require.NoError(t, h.write(start+12*hour))
	eventually(t, 2*time.Minute, func() error { return compacted(t, s) })
	seeAll(t, s, h, "after Prometheus was killed under writes, and has compacted blocks")

	s.Extra[prometheusA] = append(s.Extra[prometheusA], "--storage.tsdb.retention.time=6h")
	require.NoError(t, s.Proc(prometheusA).Stop(time.Minute))
	seeAll(t, s, h, "while Prometheus is stopped")
	require.NoError(t, s.Start(prometheusA))
	require.NoError(t, h.write(start+13*hour))
	seeAll(t, s, h, "after Prometheus deleted blocks")

	seen := stop()
	t.Logf("%d questions: %d complete answers, %d with a warning, %d errors", seen.asked, seen.complete, seen.marked, seen.failed)
	require.Empty(t, seen.wrong, "an answer without a warning lacks samples or has them twice")
	require.Greater(t, seen.complete, seen.asked/4)
	loseHead(t, s, h, api)
}

// seeAll waits for an answer that has everything, without a warning: all acknowledged
// samples, and all that Prometheus itself answers.
func seeAll(t *testing.T, s *harness.Site, h *history, when string) {
	t.Helper()
	api, own := harness.API{Base: s.URL("query")}, harness.API{Base: s.URL(prometheusA)}
	end, counts := h.known()
	eventually(t, 40*time.Second, func() error {
		got, warnings, err := raw(api, end)
		if err == nil && len(warnings) > 0 {
			err = fmt.Errorf("%s: the answer has warnings: %q", when, warnings)
		}
		if err == nil {
			err = complete(got, counts, h.lateSent())
		}
		if err == nil && s.Proc(prometheusA).Running() {
			var has map[string][]harness.Sample
			if has, _, err = raw(own, end); err == nil {
				err = contains(got, has)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", when, err)
		}
		return nil
	})
}

// writeWhileKilled writes up to maxt while Prometheus is killed and started again.
func writeWhileKilled(t *testing.T, s *harness.Site, h *history, maxt int64) {
	t.Helper()
	written := make(chan error, 1)
	go func() { written <- h.write(maxt) }()
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		s.Proc(prometheusA).Kill()
		require.NoError(t, s.Start(prometheusA))
	}
	require.NoError(t, <-written)
}

// compacted says whether Prometheus has merged blocks.
func compacted(t *testing.T, s *harness.Site) error {
	t.Helper()
	for _, file := range blockDirs(t, s.Path(prometheusA)) {
		var m tsdb.BlockMeta
		b, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(b, &m) != nil {
			continue // deleted meanwhile
		}
		if len(m.Compaction.Parents) > 1 && m.MaxTime-m.MinTime > twoHours {
			return nil
		}
	}
	return errors.New("Prometheus has compacted no blocks")
}

// uploaded says whether the bucket has blocks from mint to maxt.
func uploaded(t *testing.T, s *harness.Site, mint, maxt int64) error {
	end := mint
	for _, m := range metasByTime(t, s) {
		if m.MinTime <= end {
			end = max(end, m.MaxTime)
		}
	}
	if end < maxt {
		return fmt.Errorf("the blocks of the bucket end at %s, not %s", time.UnixMilli(end).UTC(), time.UnixMilli(maxt).UTC())
	}
	return nil
}

// metasByTime reads the metas of the blocks in the bucket, in the order of their
// upload.
func metasByTime(t *testing.T, s *harness.Site) []tsdb.BlockMeta {
	t.Helper()
	var out []tsdb.BlockMeta
	for _, id := range bucketBlocks(t, s) {
		b, err := os.ReadFile(s.Path("s3", "hindsight", id, "meta.json"))
		require.NoError(t, err)
		var m tsdb.BlockMeta
		require.NoError(t, json.Unmarshal(b, &m))
		out = append(out, m)
	}
	return out
}

// loseHead kills Prometheus and its sidecar after one more interval, removes the data
// directory, and recovers the head from the bucket.
func loseHead(t *testing.T, s *harness.Site, h *history, api harness.API) {
	t.Helper()
	awaitHead(t, s)
	end, _ := h.known()
	// The blocks that retention deleted are in the bucket only.
	before, _, err := raw(api, end)
	require.NoError(t, err)
	own, _, err := raw(harness.API{Base: s.URL(prometheusA)}, end)
	require.NoError(t, err)
	for key, samples := range own {
		all := before[key]
		require.GreaterOrEqual(t, len(all), len(samples), key)
		require.Equal(t, samples, all[len(all)-len(samples):], key)
	}
	s.Proc(prometheusA).Kill()
	s.Proc(sidecarA).Kill()
	require.NoError(t, os.RemoveAll(s.Path(prometheusA)))
	recoverHead(t, s)
	eventually(t, time.Minute, func() error {
		got, _, err := raw(api, end) // a warning names the sidecar
		if err != nil {
			return err
		}
		return same(before, got)
	})
}

// awaitHead waits until the sidecar has shipped all that Prometheus has now: until a pass has
// succeeded that began later.
func awaitHead(t *testing.T, s *harness.Site) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1000
	eventually(t, time.Minute, func() error {
		if last := headMetric(t, s, "last_ship_success_time_seconds"); last <= now {
			return fmt.Errorf("the last successful pass over the head began %v s before", now-last)
		}
		return nil
	})
}

// awaitHeadFailures waits until shipping the head has failed several times.
func awaitHeadFailures(t *testing.T, s *harness.Site) {
	t.Helper()
	before := headMetric(t, s, "ship_failures_total")
	eventually(t, 2*time.Minute, func() error {
		if n := headMetric(t, s, "ship_failures_total") - before; n < 2 {
			return fmt.Errorf("shipping the head has failed %v times", n)
		}
		return nil
	})
}

func headMetric(t *testing.T, s *harness.Site, name string) float64 {
	t.Helper()
	v, err := gauge(s.URL(sidecarA)+"/metrics", "hindsight_sidecar_head_"+name)
	require.NoError(t, err)
	return v
}

// recoverHead runs the command that makes blocks of the heads in the bucket.
func recoverHead(t *testing.T, s *harness.Site) {
	t.Helper()
	cmd := exec.Command(bin.Hindsight, "tools", "recover", "--yes", "--older-than=0s", "--objstore.config-file="+s.Path("objstore.yml"))
	cmd.Env = append(os.Environ(), "S3_ACCESS_KEY="+harness.S3AccessKey, "S3_SECRET_KEY="+harness.S3SecretKey)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("tools recover:\n%s", out)
}

// The store gateway recovers the head of a source that has gone by itself.
func TestSidecar_GatewayRecoversALostHead(t *testing.T) {
	t.Parallel()
	s := headSite(t)
	s.Extra["store"] = []string{"--store.recover-heads-after=5s", "--sync-block-duration=1s"}
	start := pastStart(2)
	h := newHistory(s.URL(prometheusA), start, true)
	require.NoError(t, s.Start("s3", prometheusA, sidecarA, "store", "query"))
	require.NoError(t, h.write(start+hour))
	awaitHead(t, s)
	end, counts := h.known()
	before, _, err := raw(harness.API{Base: s.URL(prometheusA)}, end)
	require.NoError(t, err)
	require.NoError(t, complete(before, counts, h.lateSent()))
	s.Proc(prometheusA).Kill()
	s.Proc(sidecarA).Kill()
	require.NoError(t, os.RemoveAll(s.Path(prometheusA)))
	api := harness.API{Base: s.URL("query")}
	eventually(t, time.Minute, func() error {
		got, _, err := raw(api, end)
		if err != nil {
			return err
		}
		return same(before, got)
	})
}

// The bucket is away while Prometheus cuts three blocks. Then all blocks arrive once,
// the oldest first, and the head with them.
func TestSidecar_BucketAwayForHours(t *testing.T) {
	t.Parallel()
	s := headSite(t)
	start := pastStart(8)
	h := newHistory(s.URL(prometheusA), start, true)
	require.NoError(t, s.Start("s3", prometheusA, sidecarA))
	require.NoError(t, h.write(start+hour))
	s.Proc("s3").Kill()
	require.NoError(t, h.write(start+7*hour))
	api := harness.API{Base: s.URL(prometheusA)}
	end, counts := h.known()
	before, _, err := raw(api, end)
	require.NoError(t, err)
	require.NoError(t, complete(before, counts, h.lateSent()))
	awaitHeadFailures(t, s)

	require.NoError(t, s.Start("s3"))
	eventually(t, time.Minute, func() error { return uploaded(t, s, start, start+4*hour) })
	awaitHead(t, s)
	inOrder := int64(0)
	holder := map[ulid.ULID]ulid.ULID{}
	for _, m := range metasByTime(t, s) {
		if !m.Compaction.FromOutOfOrder() { // one of late samples is cut when it is full
			require.GreaterOrEqual(t, m.MinTime, inOrder, "a newer block was uploaded before an older one")
			inOrder = m.MinTime
		}
		for _, source := range m.Compaction.Sources {
			require.NotContains(t, holder, source, "block %s has the samples of another one", m.ULID)
			holder[source] = m.ULID
		}
	}
	s.Proc(prometheusA).Kill()
	s.Proc(sidecarA).Kill()
	require.NoError(t, os.RemoveAll(s.Path(prometheusA)))
	recoverHead(t, s)
	s.Endpoints = []string{"store"}
	require.NoError(t, s.Start("store", "query"))
	requireColumnsRead(t, s, before, start)
	eventually(t, time.Minute, func() error {
		got, _, err := raw(harness.API{Base: s.URL("query")}, end)
		if err != nil {
			return err
		}
		return same(before, got)
	})
}

// requireColumnsRead asks for one series in the first two hours of a history, which the sidecar has
// shipped: the gateway reads the columns objects of these blocks, and no index header. before is
// what Prometheus had answered.
func requireColumnsRead(t *testing.T, s *harness.Site, before map[string][]harness.Sample, start int64) {
	t.Helper()
	for _, m := range metasByTime(t, s) {
		objects, err := filepath.Glob(s.Path("s3", "hindsight", m.ULID.String(), "columns-v1-*"))
		require.NoError(t, err)
		if m.MaxTime <= start+4*hour {
			require.Len(t, objects, 1, "block %s of %s", m.ULID, time.UnixMilli(m.MinTime).UTC())
		}
	}
	end := start + 2*hour - 1
	var want []harness.Sample
	for _, sample := range before[`__name__="history_gauge",series="history_gauge-2",`] {
		if sample.T <= float64(end)/1000 {
			want = append(want, sample)
		}
	}
	require.EqualValues(t, 2*hour/historyStep, len(want))
	var got harness.Answer
	eventually(t, time.Minute, func() (err error) {
		got, err = harness.API{Base: s.URL("query")}.Instant(`history_gauge{series="history_gauge-2"}[2h]`, time.UnixMilli(end))
		if err == nil && len(got.Series) != 1 {
			err = fmt.Errorf("%d series", len(got.Series))
		}
		return err
	})
	require.Empty(t, got.Warnings)
	require.Equal(t, want, got.Series[0].Samples)
	headers, err := os.ReadDir(s.Path("store", "index-headers"))
	require.NoError(t, err)
	require.Empty(t, headers, "the index of a block was read")
}
