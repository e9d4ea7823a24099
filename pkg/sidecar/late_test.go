package sidecar

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
)

func TestLateSamples_BoundsPendingAndFutureSamples(t *testing.T) {
	const window = 90 * minute
	s := promtest.New(t, promtest.Options{BlockDuration: 100 * minute, OutOfOrderWindow: window})
	lset := labels.FromStrings("__name__", "m")
	slack := lateSlack.Milliseconds()
	l := &lateSamples{path: filepath.Join(s.Dir, "wbl")}
	update := func(window, headMax, started int64) int64 {
		t.Helper()
		low, err := l.update(t.Context(), window, prom.Times{HeadMax: headMax, Started: started})
		require.NoError(t, err)
		return low
	}
	require.Equal(t, int64(math.MaxInt64), update(0, 500*minute, 1), "samples come in order")
	require.Equal(t, int64(math.MinInt64), update(window, math.MinInt64, 1), "an empty head")
	l.reset()

	// The first update reads the log, which may be of an earlier, larger window.
	s.Append(t, lset, 200*minute, 1, 1)
	s.Append(t, lset, 115*minute, 1, 1)
	require.Equal(t, 115*minute, update(0, 500*minute, 1))
	require.Equal(t, 115*minute, update(window, 500*minute, 1))

	// The highest time of the last update, and the larger of two windows, bound the
	// samples that came since.
	s.Append(t, lset, 120*minute, 1, 1)
	require.Equal(t, 115*minute, update(window, 510*minute, 1))
	s.Append(t, lset, 121*minute, 1, 1)
	require.Equal(t, 510*minute-450*minute-slack, update(450*minute, 520*minute, 1))
	require.Equal(t, 510*minute-450*minute-slack, update(0, 520*minute, 1), "the segment keeps its bound")

	// A restart: the log is read again.
	require.Equal(t, 115*minute, update(0, 400*minute, 2))

	// A log that cannot be read bounds nothing.
	segments, err := filepath.Glob(filepath.Join(s.Dir, "wbl", "0*"))
	require.NoError(t, err)
	raw, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	raw[len(raw)/2]++
	damaged := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(damaged, "00000000"), raw, 0o644))
	_, err = (&lateSamples{path: damaged}).update(t.Context(), 0, prom.Times{})
	require.ErrorContains(t, err, "out-of-order")
}

// Blocks from before all out-of-order samples are read directly.
func TestDirect_ReadsBlocksBeforeOutOfOrderSamples(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 100 * minute, OutOfOrderWindow: 200 * minute})
	zeros(t, s, 2, 800)
	require.NoError(t, s.DB.Compact(t.Context()))
	st := newStore(t, s)
	d := withDisk(t, st, s.Dir)
	end := func() int64 {
		v := d.dir.Acquire()
		require.NotNil(t, v)
		defer v.Release()
		return v.End()
	}
	require.Equal(t, 799*minute-200*minute-lateSlack.Milliseconds(), end())
	late := 650 * minute
	s.Append(t, labels.FromStrings("__name__", "m", "i", "00"), late+1, 1, 7)
	require.True(t, d.refresh(t.Context()))
	r := forever(eq("__name__", "m"))
	got := samples(t, st.Select(t.Context(), r), 0, math.MaxInt64)
	require.Len(t, got[`{__name__="m", cluster="eu", i="00"}`], 801)

	before := s.Reads()
	r.MaxTime = end() - 1
	require.Len(t, samples(t, st.Select(t.Context(), r), 0, r.MaxTime)[`{__name__="m", cluster="eu", i="01"}`], 594)
	require.Equal(t, before, s.Reads(), "Prometheus was not asked")
}
