package e2e

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// historyStep is the distance of the samples of a history in ms.
const historyStep = 15_000

// history writes a past of its own choice into one Prometheus by remote write, and
// remembers how many samples of each series were acknowledged. All its metrics are
// called history_something.
type history struct {
	url string
	// every adds native histograms, exemplars and late samples.
	every bool

	mu    sync.Mutex
	next  int64          // ms, the time of the next batch
	acked map[string]int // samples by value of the label "series"
	// late is the number of late samples that were sent, acknowledged or not.
	late int
}

func newHistory(url string, start int64, every bool) *history {
	return &history{url: url + "/api/v1/write", every: every, next: start, acked: map[string]int{}}
}

// write adds samples up to, not including, maxt. It repeats a request until it is
// acknowledged, as a client with a queue does.
func (h *history) write(maxt int64) error {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for h.next < maxt {
		end := min(h.next+20*historyStep, maxt)
		batch := h.batch(h.next, end)
		if h.every {
			h.mu.Lock()
			h.late += int(end-h.next) / historyStep
			h.mu.Unlock()
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			_, err := harness.Writer{URL: h.url, Client: client}.Write(batch)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
		h.ack(batch, end)
	}
	return nil
}

func (h *history) ack(batch []prompb.TimeSeries, end int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = end
	for _, ts := range batch {
		name := ts.Labels[len(ts.Labels)-1].Value
		h.acked[name] += len(ts.Samples) + len(ts.Histograms)
	}
}

// known returns a time before which all samples are acknowledged, and their numbers.
func (h *history) known() (end int64, counts map[string]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next - 1, maps.Clone(h.acked)
}

// lateSent is the number of late samples that were sent.
func (h *history) lateSent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.late
}

// batch makes the samples from mint to maxt.
func (h *history) batch(mint, maxt int64) []prompb.TimeSeries {
	out := h.floats(mint, maxt)
	if !h.every {
		return out
	}
	for i := range 3 {
		ts := harness.TimeSeries(nil, "__name__", "history_histogram", "series", "histogram-"+strconv.Itoa(i))
		for t := mint; t < maxt; t += historyStep {
			ts.Histograms = append(ts.Histograms, nativeHistogram(t, i))
		}
		out = append(out, ts)
	}
	// Samples that come twenty minutes late, of a series that has newer ones.
	late := harness.TimeSeries(nil, "__name__", "history_late", "series", "late")
	for t := mint; t < maxt; t += historyStep {
		at := t - 20*60*1000
		if (t/historyStep)%10 == 0 {
			at = t
		}
		late.Samples = append(late.Samples, prompb.Sample{Timestamp: at + 1, Value: float64(t % 1_000_000)})
	}
	return append(out, late)
}

// floats makes gauges, counters that restart, and series that live for ten minutes.
func (h *history) floats(mint, maxt int64) []prompb.TimeSeries {
	var out []prompb.TimeSeries
	for i := range 20 {
		m := metric{name: "history_gauge"}
		if i%2 == 1 {
			m = metric{name: "history_counter_total", counter: true}
		}
		ts := harness.TimeSeries(nil, "__name__", m.name, "series", fmt.Sprintf("%s-%d", m.name, i))
		for t := mint; t < maxt; t += historyStep {
			v := m.value(i, t)
			if i == 0 && (t/historyStep)%50 == 0 {
				v = math.Inf(1)
			}
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: v})
		}
		if h.every && m.counter {
			ts.Exemplars = []prompb.Exemplar{{
				Labels:    []prompb.Label{{Name: "trace_id", Value: strconv.FormatInt(mint, 16)}},
				Timestamp: mint, Value: float64(i),
			}}
		}
		out = append(out, ts)
	}
	short := "short-" + strconv.FormatInt(mint/(10*60*1000), 10)
	ts := harness.TimeSeries(nil, "__name__", "history_short", "series", short)
	for t := mint; t < maxt; t += historyStep {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: 1})
	}
	return append(out, ts)
}

// nativeHistogram makes an integer histogram that grows with t; series 2 has custom
// buckets.
func nativeHistogram(t int64, series int) prompb.Histogram {
	n := uint64(t/historyStep)%100_000 + uint64(series)
	h := prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 3 * n}, Sum: float64(n) * 1.5,
		Schema: 2, ZeroThreshold: 1e-128, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 0},
		PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}}, PositiveDeltas: []int64{int64(n), int64(n)},
		Timestamp: t,
	}
	if series == 2 {
		h.Schema, h.ZeroThreshold, h.CustomValues = -53, 0, []float64{0.1, 1, 10}
	}
	return h
}

// everything is a query for all samples of a history of at most 24 hours.
const everything = `{__name__=~"history_.*"}[24h]`

// raw returns all samples of a history by label set, without the external labels of
// the demo.
func raw(api harness.API, end int64) (map[string][]harness.Sample, []string, error) {
	ans, err := api.Instant(everything, time.UnixMilli(end))
	if err != nil {
		return nil, nil, err
	}
	out := map[string][]harness.Sample{}
	for _, s := range ans.Series {
		delete(s.Labels, "cluster")
		delete(s.Labels, "replica")
		out[s.Key()] = s.Samples
	}
	return out, ans.Warnings, nil
}

// same compares all samples of two histories. Recovery may find late samples that
// Prometheus had forgotten.
func same(want, got map[string][]harness.Sample) error {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		w, g := want[key], got[key]
		if slices.Equal(w, g) {
			continue
		}
		if strings.Contains(key, `"history_late"`) && len(missing(w, g)) == 0 {
			continue
		}
		for i := range w {
			if i >= len(g) || w[i] != g[i] {
				return fmt.Errorf("%s: %d samples instead of %d, different from sample %d on: want %v, got %v",
					key, len(g), len(w), i, w[i:min(i+2, len(w))], g[min(i, len(g)):min(i+2, len(g))])
			}
		}
		return fmt.Errorf("%s: %d samples instead of %d", key, len(g), len(w))
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d series instead of %d", len(got), len(want))
	}
	return nil
}

// complete compares the numbers of samples of an answer with the acknowledged ones. Of
// late samples there may be any number up to late: they have times before those that
// were acknowledged earlier, and Prometheus may forget some when it is killed.
func complete(got map[string][]harness.Sample, counts map[string]int, late int) error {
	seen := map[string]int{}
	for key, samples := range got {
		_, name, _ := strings.Cut(key, `series="`)
		name, _, _ = strings.Cut(name, `"`)
		seen[name] += len(samples)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if name == "late" && seen[name] <= late {
			continue
		}
		if seen[name] != counts[name] {
			return fmt.Errorf("series %s has %d samples, %d were acknowledged", name, seen[name], counts[name])
		}
	}
	return nil
}

// contains says whether an answer has all samples of another one.
func contains(got, part map[string][]harness.Sample) error {
	for _, key := range slices.Sorted(maps.Keys(part)) {
		if lost := missing(part[key], got[key]); len(lost) > 0 {
			return fmt.Errorf("%s: %d samples are missing, the first is %v", key, len(lost), lost[0])
		}
	}
	return nil
}

// missing returns the samples of want that got lacks.
func missing(want, got []harness.Sample) []harness.Sample {
	has := map[harness.Sample]bool{}
	for _, s := range got {
		has[s] = true
	}
	var out []harness.Sample
	for _, s := range want {
		if !has[s] {
			out = append(out, s)
		}
	}
	return out
}

// observer asks a querier again and again for all that was acknowledged before the
// question. An answer without a warning must have each sample once.
type observer struct {
	api  harness.API
	hist *history

	asked, complete, marked, failed int
	wrong                           []string
}

// run asks until stop is closed.
func (o *observer) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		end, counts := o.hist.known()
		got, warnings, err := raw(o.api, end)
		o.asked++
		switch {
		case err != nil:
			o.failed++
		case len(warnings) > 0:
			o.marked++
		default:
			o.complete++
			if err := complete(got, counts, o.hist.lateSent()); err != nil {
				o.wrong = append(o.wrong, fmt.Sprintf("%s: %s", time.Now().Format(time.TimeOnly), err))
			}
		}
	}
}

// watchHistory starts an observer and checks at the end of the test what it saw.
func watchHistory(t *testing.T, api harness.API, h *history) (stop func() *observer) {
	t.Helper()
	o := &observer{api: api, hist: h}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		o.run(end)
	}()
	stop = sync.OnceValue(func() *observer {
		close(end)
		<-done
		return o
	})
	t.Cleanup(func() { stop() })
	return stop
}

// bucketBlocks lists the blocks of the site's bucket whose upload is complete, by the
// time of their upload.
func bucketBlocks(t *testing.T, s *harness.Site) []string {
	t.Helper()
	metas, err := filepath.Glob(s.Path("s3", "hindsight", "01*", "meta.json"))
	require.NoError(t, err)
	at := map[string]time.Time{}
	for _, m := range metas {
		info, err := os.Stat(m)
		require.NoError(t, err)
		at[filepath.Base(filepath.Dir(m))] = info.ModTime()
	}
	return slices.SortedFunc(maps.Keys(at), func(a, b string) int { return at[a].Compare(at[b]) })
}
