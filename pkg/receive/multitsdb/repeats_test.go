package multitsdb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

func TestRepeatsAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var r repeats
	for range 200 {
		n := rnd.IntN(300)
		r.start(n)
		last := map[storage.SeriesRef]int{}
		for i := range n {
			ref := storage.SeriesRef(rnd.IntN(100)) * 8
			want, known := last[ref]
			got, ok := r.last(ref)
			require.Equal(t, known && ref != 0, ok)
			if ok {
				require.Equal(t, want, got)
			}
			r.add(ref)
			last[ref] = i
		}
	}
}

// Two series that have become the same by relabelling contradict each other
// wherever they are in the request. The answer reports the rejected samples, which
// the TSDB would drop without an error.
func TestContradictionsInARequest(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) { c.OutOfOrderWindow = 2 * time.Hour })
	now := time.Now().UnixMilli()
	others := func(n int) (out []prompb.TimeSeries) {
		for i := range n {
			out = append(out, float(fmt.Sprint("other", i), now, 1))
		}
		return out
	}
	hist := func(ts int64, n int) prompb.TimeSeries {
		return prompb.TimeSeries{
			Labels:     []prompb.Label{{Name: "__name__", Value: "x"}},
			Histograms: []prompb.Histogram{prompb.FromIntHistogram(ts, tsdbutil.GenerateTestHistogram(int64(n)))},
		}
	}
	bad := prompb.TimeSeries{Labels: []prompb.Label{{Name: "b", Value: "1"}, {Name: "a", Value: "2"}}, Samples: []prompb.Sample{{Timestamp: now}}}
	send := func(series ...prompb.TimeSeries) (lost int) {
		now += 1000
		err := write(t, d, "a", series...)
		var w *remotewrite.WriteError
		if errors.As(err, &w) {
			require.Contains(t, err.Error(), "duplicate sample for timestamp")
			for _, m := range w.Missing {
				lost += m.Samples + m.Histograms
			}
		} else {
			require.NoError(t, err)
		}
		return lost
	}
	for round := range 3 { // new series in the first, known ones later
		mix := func(series ...prompb.TimeSeries) (out []prompb.TimeSeries) {
			for _, s := range series {
				out = append(append(out, s), others(3)...)
			}
			return out
		}
		name := fmt.Sprint("x", round/2)
		require.Zero(t, send(mix(float(name, now, 1), float(name, now, 1))...), "the same again")
		require.Equal(t, 1, send(mix(float(name, now, 1), float(name, now, 2))...))
		require.Equal(t, 2, send(mix(float(name, now, 1), float(name, now, 2), float(name, now, 3))...))
		require.Equal(t, 1, send(mix(float(name, now, 1), float(name, now+1, 2), float(name, now+1, 3))...))
		require.Zero(t, send(mix(float(name, now, 1), float(name, now+1, 2), float(name, now+2, 3))...), "one after the other")
		require.Equal(t, 1, send(append(mix(float(name, now, 1)), float(name, now+1, 2), float(name, now+1, 2), float("y", now, 1), float(name, now+1, 5))...))
		require.Equal(t, 1, send(append(mix(hist(now, 1)), hist(now, 1), float("y", now, 1), hist(now, 7))...))
	}
	// A rejected series between the two does not hide the contradiction.
	now += 1000
	err := write(t, d, "a", float("x0", now, 1), bad, float("x0", now, 1), float("y", now, 1), float("x0", now, 2))
	require.ErrorContains(t, err, "duplicate_timestamp: 1 rejected")
}
