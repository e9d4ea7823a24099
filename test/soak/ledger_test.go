package main

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// filled is a ledger whose first n steps are acknowledged, and an answer with all of them.
func filled(t *testing.T, n int) (*ledger, []harness.Series) {
	t.Helper()
	l := newLedger(newStream("red", "", 0, 60_000, 3))
	series := map[string]*harness.Series{}
	var order []string
	for step := range n {
		batch, at := l.batch(step, step+1)
		l.mark(at, sent)
		l.mark(at, acked)
		for k, ts := range batch {
			labels := map[string]string{}
			for _, x := range ts.Labels {
				labels[x.Name] = x.Value
			}
			key := harness.Series{Labels: labels}.Key()
			if series[key] == nil {
				series[key] = &harness.Series{Labels: labels}
				order = append(order, key)
			}
			for _, s := range ts.Samples {
				series[key].Samples = append(series[key].Samples, harness.Sample{T: float64(s.Timestamp) / 1000, V: strconv.FormatFloat(s.Value, 'f', -1, 64)})
			}
			for range ts.Histograms {
				series[key].Samples = append(series[key].Samples, harness.Sample{T: float64(l.time(at[k].index)) / 1000, V: asJSON(t, l, at[k])})
			}
		}
	}
	var out []harness.Series
	for _, key := range order {
		out = append(out, *series[key])
	}
	return l, out
}

// asJSON is a histogram as the API of Prometheus writes it.
func asJSON(t *testing.T, l *ledger, p place) string {
	h := l.series[p.series].floatHistogram(p.index)
	format := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	buckets := [][]any{}
	for it := h.AllBucketIterator(); it.Next(); {
		if b := it.At(); b.Count != 0 {
			buckets = append(buckets, []any{0, format(b.Lower), format(b.Upper), format(b.Count)})
		}
	}
	out, err := json.Marshal(map[string]any{"count": format(h.Count), "sum": format(h.Sum), "buckets": buckets})
	require.NoError(t, err)
	return string(out)
}

func TestLedger_AcceptsRightAnswer(t *testing.T) {
	l, answer := filled(t, 300)
	v, err := l.compare(l.snapshot(-1, 1<<40), answer)
	require.NoError(t, err)
	require.Zero(t, v.missing, v.example)
	require.Equal(t, l.count(), v.samples)
}

func TestLedger_FindsFaultsOfAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		break_  func(answer []harness.Series) []harness.Series
		missing int
		err     string
	}{
		"a lost sample":     {func(a []harness.Series) []harness.Series { a[0].Samples = a[0].Samples[1:]; return a }, 1, ""},
		"a lost series":     {func(a []harness.Series) []harness.Series { return a[1:] }, 20, ""},
		"a wrong value":     {func(a []harness.Series) []harness.Series { a[0].Samples[3].V = "0.5"; return a }, 0, "expected"},
		"another time":      {func(a []harness.Series) []harness.Series { a[0].Samples[3].T++; return a }, 0, "has no sample at"},
		"never sent":        {func(a []harness.Series) []harness.Series { a[0].Samples[3].T = 60 * 500; return a }, 0, "never sent"},
		"another tenant":    {func(a []harness.Series) []harness.Series { a[0].Labels["owner"] = "blue"; return a }, 0, "never wrote"},
		"another series":    {func(a []harness.Series) []harness.Series { a[0].Labels["series"] = "1"; return a }, 0, "expected"},
		"twice":             {func(a []harness.Series) []harness.Series { return append(a, a[0]) }, 0, "two samples"},
		"a histogram":       {func(a []harness.Series) []harness.Series { a[0].Samples[0].V = `{"count":"1"}`; return a }, 0, "expected"},
		"outside of window": {func(a []harness.Series) []harness.Series { return a }, 0, "before the window"},
	} {
		t.Run(name, func(t *testing.T) {
			l, answer := filled(t, 20)
			w := l.snapshot(-1, 1<<40)
			if name == "outside of window" {
				w = l.snapshot(60_000, 1<<40)
			}
			v, err := l.compare(w, c.break_(answer))
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.missing, v.missing)
		})
	}
}

func TestLedger_AllowsSamplesThatWereNotAcknowledged(t *testing.T) {
	l, answer := filled(t, 20)
	before := l.snapshot(-1, 1<<40)
	batch, at := l.batch(20, 21)
	l.mark(at, sent)
	answer[0].Samples = append(answer[0].Samples, harness.Sample{T: 20 * 60, V: strconv.FormatFloat(batch[0].Samples[0].Value, 'f', -1, 64)})
	v, err := l.compare(before, answer)
	require.NoError(t, err)
	require.Zero(t, v.missing)
	v, err = l.compare(l.snapshot(-1, 1<<40), answer[:1])
	require.NoError(t, err)
	require.Positive(t, v.missing)
	require.Equal(t, sent, l.was(at[0]))
}

func TestStream_SendsEachLateSampleOnce(t *testing.T) {
	s := series{kind: late, seed: 5}
	sentAt := map[int]int{}
	for n := range 1000 {
		for _, i := range s.due(n) {
			require.NotContains(t, sentAt, i)
			sentAt[i] = n
		}
	}
	delayed := 0
	for i := range 1000 - maxDelay {
		require.Contains(t, sentAt, i)
		require.LessOrEqual(t, sentAt[i]-i, maxDelay)
		if sentAt[i] > i {
			delayed++
		}
	}
	require.Greater(t, delayed, 800)
}

// A sample whose deletion was asked for may be there; one whose deletion was accepted is
// counted; and one that was deleted after the snapshot is not missing.
func TestCompare_CountsDeletedSamples(t *testing.T) {
	l, answer := filled(t, 2*lifeSteps)
	w := l.snapshot(-1, l.time(2*lifeSteps))
	v, err := l.compare(w, answer)
	require.NoError(t, err)
	require.Zero(t, v.missing)
	which := -1
	var at []place
	for i, s := range l.series {
		if s.kind == short {
			which = i
		}
	}
	for i := range lifeSteps {
		at = append(at, place{which, i})
	}
	var rest []harness.Series
	for _, s := range answer {
		if s.Labels["life"] != "0" || s.Labels["series"] != strconv.Itoa(l.series[which].id) {
			rest = append(rest, s)
		}
	}
	v, err = l.compare(w, rest)
	require.NoError(t, err)
	require.Equal(t, lifeSteps, v.missing)
	l.mark(at, doomed)
	v, err = l.compare(w, rest)
	require.NoError(t, err)
	require.Zero(t, v.missing)
	w = l.snapshot(-1, l.time(2*lifeSteps))
	v, err = l.compare(w, answer)
	require.NoError(t, err)
	require.Zero(t, v.missing+v.erased)
	l.mark(at, erased)
	w = l.snapshot(-1, l.time(2*lifeSteps))
	v, err = l.compare(w, answer)
	require.NoError(t, err)
	require.Equal(t, lifeSteps, v.erased)
	require.NotEmpty(t, v.leftover)
}
