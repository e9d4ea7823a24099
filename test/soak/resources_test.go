package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func life(n int, memory func(i int) int64) []usage {
	var out []usage
	for i := range n {
		out = append(out, usage{name: "store-1", pid: 7, at: time.Duration(i) * time.Minute, memory: memory(i), files: 30, goroutines: 50})
	}
	return out
}

func TestGrowth_FindsOnlyWhatGrowsAllTheTime(t *testing.T) {
	const mib = 1 << 20
	require.NoError(t, growth(life(30, func(int) int64 { return 100 * mib })))
	require.NoError(t, growth(life(30, func(i int) int64 { return min(int64(i), 10) * 50 * mib })), "it reaches a level")
	require.NoError(t, growth(life(5, func(i int) int64 { return int64(i) * 500 * mib })), "too short to say")
	require.ErrorContains(t, growth(life(30, func(i int) int64 { return int64(i) * 50 * mib })), "memory of store-1 grow")
}

func TestSum_AddsTheSeriesOfAMetric(t *testing.T) {
	page := "# HELP a b\na{x=\"1\"} 2\na{x=\"2\"} 3.5\nab 9\na_total 9\ngo_goroutines 12\n"
	require.Equal(t, 5.5, sum(page, "a"))
	require.Equal(t, 12.0, sum(page, "go_goroutines"))
	require.Zero(t, sum(page, "c"))
}

func TestCrashed_AllowsOnlyTheEndForWantOfSpace(t *testing.T) {
	require.Empty(t, crashed("level=info msg=ready\n"))
	require.Empty(t, crashed("x\npanic: commit to a TSDB: preallocate: no space left on device\n\ngoroutine 7 [running]:\n"))
	require.Contains(t, crashed("panic: no space left on device\nlater\npanic: nil map\n"), "nil map")
	require.NotEmpty(t, crashed(`level=error msg="panic in gRPC handler" panic="preallocate: no space left on device"`))
	require.NotEmpty(t, crashed("fatal error: concurrent map writes"))
}
