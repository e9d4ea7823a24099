package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// outageConfig scrapes nothing, so that Prometheus has what the test writes.
const outageConfig = `
global:
  external_labels: {cluster: eu, replica: a}
storage:
  tsdb:
    out_of_order_time_window: 2h
`

// outage is a Prometheus with its sidecar and a querier, and what it must answer.
type outage struct {
	*harness.Site
	t *testing.T
}

// selector returns the samples from mint on at maxt.
func (o *outage) selector(mint, maxt int64) string {
	return fmt.Sprintf(`{__name__=~"outage_.*"}[%dms]`, maxt-mint)
}

// answer reads the samples of Prometheus, by the labels that the querier gives them.
func (o *outage) answer(query string, at int64) map[string]harness.Series {
	o.t.Helper()
	got, err := harness.API{Base: o.URL("prometheus-eu-a")}.Instant(query, time.UnixMilli(at))
	require.NoError(o.t, err)
	out := map[string]harness.Series{}
	for _, series := range got.Series {
		series.Labels = maps.Clone(series.Labels)
		series.Labels["cluster"] = "eu"
		out[series.Key()] = series
	}
	require.Len(o.t, out, 7)
	return out
}

// errWrong is an answer that is wrong and does not say so.
var errWrong = errors.New("wrong answer")

// check compares the answer of the querier.
func (o *outage) check(want map[string]harness.Series, query string, at int64) error {
	got, err := harness.API{Base: o.URL("query")}.Instant(query, time.UnixMilli(at))
	if err != nil {
		return err
	}
	if len(got.Warnings) > 0 {
		return fmt.Errorf("the answer has warnings: %q", got.Warnings)
	}
	if len(got.Series) != len(want) {
		return fmt.Errorf("%w: %d series instead of %d", errWrong, len(got.Series), len(want))
	}
	for _, series := range got.Series {
		w := want[series.Key()]
		if len(w.Samples) != len(series.Samples) {
			return fmt.Errorf("%w: %s has %d samples instead of %d", errWrong, series.Key(), len(series.Samples), len(w.Samples))
		}
		if !reflect.DeepEqual(w.Samples, series.Samples) {
			return fmt.Errorf("%w: %s has other samples", errWrong, series.Key())
		}
	}
	return nil
}

// readOn reads again and again, until the result is called. An answer that is neither
// an error, nor marked as partial, nor complete fails the test.
func (o *outage) readOn(want map[string]harness.Series, query string, at int64) (stop func()) {
	end, failed := make(chan struct{}), []error(nil)
	var complete atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
			err := o.check(want, query, at)
			switch {
			case err == nil:
				complete.Add(1)
			case errors.Is(err, errWrong):
				failed = append(failed, err)
			}
		}
	})
	return func() {
		o.t.Helper()
		// A slow reader may not have had an answer yet.
		eventually(o.t, time.Minute, func() error {
			if complete.Load() == 0 {
				return errors.New("no answer was complete")
			}
			return nil
		})
		close(end)
		reading.Wait()
		require.Empty(o.t, failed)
	}
}

// lateCompacted fails until Prometheus has a block with late samples, or one merged of such.
func (o *outage) lateCompacted() error {
	files := blockDirs(o.t, o.Path("prometheus-eu-a"))
	for _, file := range files {
		var m tsdb.BlockMeta
		b, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(b, &m) != nil {
			continue // deleted meanwhile
		}
		if m.Compaction.FromOutOfOrder() || len(m.Compaction.Parents) > 1 {
			return nil
		}
	}
	return fmt.Errorf("none of %d blocks has late samples", len(files))
}

// writeLate writes samples that come out of order, and a native histogram.
func (o *outage) writeLate(mint, maxt int64) {
	o.t.Helper()
	var samples []prompb.Sample
	var histograms []prompb.Histogram
	for at := mint + 7000; at < maxt; at += 60_000 {
		samples = append(samples, prompb.Sample{Timestamp: at, Value: float64(at % 1000)})
		histograms = append(histograms, prompb.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(at/60_000%100)))
	}
	series := []prompb.TimeSeries{
		harness.TimeSeries(samples, "__name__", "outage_gauge", "series", "1"),
		{Labels: []prompb.Label{{Name: "__name__", Value: "outage_histogram"}}, Histograms: histograms},
	}
	_, err := harness.Writer{URL: o.URL("prometheus-eu-a") + "/api/v1/write"}.Write(series)
	require.NoError(o.t, err)
}

// hang holds Prometheus, so that it accepts connections and answers nothing: the first
// request waits for some seconds, later ones do not, and the sidecar stays ready.
func (o *outage) hang(want map[string]harness.Series, query string, at int64) {
	o.t.Helper()
	p := o.Proc("prometheus-eu-a")
	p.Signal(syscall.SIGSTOP)
	eventually(o.t, time.Minute, func() error { return o.check(want, query, at) })
	start := time.Now()
	for range 3 {
		require.NoError(o.t, o.check(want, query, at))
	}
	require.Less(o.t, time.Since(start), 5*time.Second, "three answers while Prometheus hangs")
	resp, err := http.Get(o.URL("sidecar-eu-a") + "/-/ready")
	require.NoError(o.t, err)
	require.NoError(o.t, resp.Body.Close())
	require.Equal(o.t, http.StatusOK, resp.StatusCode, "the sidecar stays ready")
	p.Signal(syscall.SIGCONT)
	eventually(o.t, time.Minute, func() error { return o.check(want, query, at) })
}

// The querier gets the samples of a Prometheus through its sidecar, all and once, while
// that Prometheus cuts a block, is killed, starts, stops, and deletes blocks.
func TestSidecar_AnswersWhilePrometheusIsDown(t *testing.T) {
	t.Parallel()
	o := &outage{Site: newSite(t), t: t}
	o.Endpoints = []string{"sidecar-eu-a"}
	require.NoError(t, os.WriteFile(o.Path("prometheus-eu-a.yml"), []byte(outageConfig), 0o644))
	m := []metric{{name: "outage_gauge"}, {name: "outage_total", counter: true}}
	now := time.Now().UnixMilli()
	border := now/twoHours*twoHours - 2*twoHours
	for at := border - 2*twoHours; at < border; at += twoHours {
		writeBlock(t, o.Path("prometheus-eu-a"), at, at+twoHours, 15_000, 0, m)
	}
	o.Extra["prometheus-eu-a"] = []string{"--web.enable-remote-write-receiver"}
	o.Extra["sidecar-eu-a"] = []string{"--prometheus.get_config_interval=1s"}
	require.NoError(t, o.Start("s3", "prometheus-eu-a", "sidecar-eu-a", "query"))

	// A block is cut under the reader.
	first := border + twoHours
	fill(t, o.URL("prometheus-eu-a"), m, border, first)
	o.writeLate(border+twoHours/4, first)
	all := o.selector(border-2*twoHours, first)
	want := o.answer(all, first)
	eventually(t, time.Minute, func() error { return o.check(want, all, first) })
	stop := o.readOn(want, all, first)
	fill(t, o.URL("prometheus-eu-a"), m, first+15_000, now)
	// Prometheus compacts late samples after those that came in order, and forgets some when it is
	// killed meanwhile. In the second half of two hours it cuts two blocks before.
	eventually(t, time.Minute, o.lateCompacted)
	o.writeLate(now-twoHours/4, now)
	stop()

	// Prometheus is killed and starts again under the reader.
	all = o.selector(border-2*twoHours, now)
	want = o.answer(all, now)
	recent := o.selector(border, now)
	wantRecent := o.answer(recent, now)
	stop = o.readOn(wantRecent, recent, now)
	o.Proc("prometheus-eu-a").Kill()
	eventually(t, time.Minute, func() error { return o.check(want, all, now) })
	resp, err := http.Get(o.URL("sidecar-eu-a") + "/-/ready")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode, "the sidecar stays ready")
	require.NoError(t, o.Start("prometheus-eu-a"))
	require.Equal(t, want, o.answer(all, now), "Prometheus has what it had")
	require.NoError(t, o.check(want, all, now))
	stop()
	resp, err = http.Get(o.URL("sidecar-eu-a") + "/metrics")
	require.NoError(t, err)
	metrics, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	for _, from := range []string{"blocks", "prometheus", "data_directory"} {
		unused := strings.Contains(string(metrics), `hindsight_sidecar_reads_total{from="`+from+`"} 0`)
		require.False(t, unused, "samples were read from %s", from)
	}

	o.hang(want, all, now)

	// It stops in order, and retention deletes blocks at its next start.
	stop = o.readOn(wantRecent, recent, now)
	require.NoError(t, o.Proc("prometheus-eu-a").Stop(time.Minute))
	eventually(t, time.Minute, func() error { return o.check(want, all, now) })
	o.Extra["prometheus-eu-a"] = append(o.Extra["prometheus-eu-a"], "--storage.tsdb.retention.time="+strconv.FormatInt((now-border)/60_000+30, 10)+"m")
	require.NoError(t, o.Start("prometheus-eu-a"))
	eventually(t, time.Minute, func() error { return o.check(o.answer(all, now), all, now) })
	stop()
	require.NotContains(t, o.Proc("sidecar-eu-a").Output(), "panic")
}
