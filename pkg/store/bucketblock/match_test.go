package bucketblock

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// header makes the header of a block with the series, through a real index.
func header(t testing.TB, series []labels.Labels) *indexheader.Header {
	t.Helper()
	file := filepath.Join(t.TempDir(), "index")
	w, err := index.NewWriter(context.Background(), file)
	require.NoError(t, err)
	var symbols []string
	for _, s := range series {
		s.Range(func(l labels.Label) { symbols = append(symbols, l.Name, l.Value) })
	}
	slices.Sort(symbols)
	for _, s := range slices.Compact(symbols) {
		require.NoError(t, w.AddSymbol(s))
	}
	slices.SortFunc(series, labels.Compare)
	for i, s := range series {
		require.NoError(t, w.AddSeries(storage.SeriesRef(i+1), s))
	}
	require.NoError(t, w.Close())
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	bkt := bucket.NewMemory()
	require.NoError(t, bkt.Upload(t.Context(), "index", f, info.Size()))
	h, err := indexheader.Fetch(t.Context(), bkt, "index", info.Size(), nil)
	require.NoError(t, err)
	return h
}

// describe prints a selection: the lists by their values.
func describe(h *indexheader.Header, sel selection) string {
	if sel.none {
		return "nothing can match\n"
	}
	var out strings.Builder
	groups := func(verb string, gs []group) {
		for _, g := range gs {
			if g.name == "" {
				fmt.Fprintf(&out, "%s all %d series\n", verb, g.count)
				continue
			}
			l := h.Label(g.name)
			var values []string
			for i := range l.Len() {
				if slices.Contains(g.lists, l.Postings(i)) {
					values = append(values, l.Value(i))
				}
			}
			if len(values) > 4 {
				values = append(values[:2], fmt.Sprintf("… %d values", len(values)))
			}
			fmt.Fprintf(&out, "%s %s = %s (%d series)\n", verb, g.name, strings.Join(values, ", "), g.count)
		}
	}
	groups("read", sel.with)
	groups("read and rule out", sel.without)
	for _, m := range sel.filter {
		fmt.Fprintf(&out, "filter %s\n", m)
	}
	return out.String()
}

// TestChoose has the series of a block, one pattern per line, and selectors.
func TestChoose(t *testing.T) {
	var h *indexheader.Header
	datadriven.RunTest(t, "testdata/choose.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "series":
			var series []labels.Labels
			for line := range strings.SplitSeq(strings.TrimSpace(d.Input), "\n") {
				n, pattern := 1, line
				if before, after, ok := strings.Cut(line, " × "); ok {
					_, err := fmt.Sscan(before, &n)
					require.NoError(t, err)
					pattern = after
				}
				for i := range n {
					ms, err := parser.NewParser(parser.Options{}).ParseMetric(strings.ReplaceAll(pattern, "#", fmt.Sprintf("%05d", i)))
					require.NoError(t, err, pattern)
					series = append(series, ms)
				}
			}
			h = header(t, series)
			return ""
		case "choose":
			ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(strings.TrimSpace(d.Input))
			require.NoError(t, err)
			return describe(h, choose(h, ms, laziness{ratio: 100, eager: d.HasArg("eager")}))
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}
