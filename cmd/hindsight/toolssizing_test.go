package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sizing"
)

func runSizing(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"tools", "sizing"}, args...), streams{out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestToolsSizing_PrintsNeeds(t *testing.T) {
	code, out, errs := runSizing(t, "--series=1e6", "--receive.nodes=6", "--output=json")
	require.Equal(t, exitOK, code, errs)
	var rows []sizingRow
	require.NoError(t, json.Unmarshal([]byte(out), &rows))
	parts := map[string]bool{}
	for _, r := range rows {
		parts[r.Part] = true
		require.NotEmpty(t, r.From)
		require.Positive(t, r.Amount, r)
	}
	require.Equal(t, map[string]bool{"receive": true, "bucket": true, "store": true, "query": true, "compact": true}, parts)

	code, out, _ = runSizing(t, "--series=1000", "--downsampling.disable")
	require.Equal(t, exitOK, code)
	require.Regexp(t, `sidecar +memory +90\.\d MiB`, out)
	require.Regexp(t, `bucket +5m +0 B`, out)
}

func TestToolsSizing_RefusesWrongInput(t *testing.T) {
	for _, args := range [][]string{{}, {"--series=0"}, {"--series=NaN"}, {"--series=1", "--retention.resolution-raw=0d"}, {"--series=1", "--receive.nodes=2"}} {
		code, _, errs := runSizing(t, args...)
		require.Equal(t, exitUsage, code, args)
		require.Len(t, strings.Split(strings.TrimSpace(errs), "\n"), 1, errs)
	}
}

// The page has the figures that the calculator uses.
func TestToolsSizing_FiguresAreThoseOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/sizing.md")
	require.NoError(t, err)
	f := sizing.Measured()
	units := map[string]float64{"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "s": 1}
	for text, want := range map[string]float64{
		"receiver: memory of a series, with a head of almost 3 h":            f.ReceiveSeries,
		"receiver: memory without series":                                    f.ReceiveFixed,
		"receiver: CPU for a million samples, one copy":                      f.ReceiveCPU,
		"receiver: log and chunks of the head on disk, for a sample":         f.LogSample,
		"block: chunks, for a raw sample":                                    f.ChunkSample,
		"block: index, for a raw sample":                                     f.IndexSample,
		"block: index, for a series":                                         f.IndexSeries,
		"5m data: one window of a series":                                    f.Window5m,
		"1h data: one window of a series":                                    f.Window1h,
		"store gateway: index header on disk, for a series of a block":       f.HeaderSeries,
		"store gateway: memory of a block":                                   f.StoreBlock,
		"store gateway: memory without blocks":                               f.StoreFixed,
		"sidecar: memory of a series, while the log and a block are shipped": f.SidecarSeries,
		"sidecar: memory without series":                                     f.SidecarFixed,
		"querier: peak over nine dashboards of a day":                        f.QueryFixed,
		"compactor: peak while 40 million samples are downsampled":           f.CompactFixed,
		"compactor: CPU for a million samples, one level of merging":         f.MergeCPU,
		"compactor: the same, merging two replicas":                          f.ReplicaCPU,
		"compactor: CPU for a million samples, 5m and 1h data":               f.DownsampleCPU,
	} {
		m := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %s \| ([0-9.]+) (\w+) \|$`, regexp.QuoteMeta(text))).FindStringSubmatch(string(page))
		require.NotNil(t, m, "the page has no row %q", text)
		n, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		require.InEpsilon(t, want, n*units[m[2]], 1e-9, text)
	}
}
