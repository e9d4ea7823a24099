package tsdbimport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/tsdbimport"
)

// list is an input in memory.
type list []entry

type entry struct {
	lset   labels.Labels
	sample tsdbimport.Sample
}

func (l list) Each(_ context.Context, f func(labels.Labels, tsdbimport.Sample) error) error {
	for _, e := range l {
		if err := f(e.lset, e.sample); err != nil {
			return err
		}
	}
	return nil
}

func config(t *testing.T, in tsdbimport.Input) tsdbimport.Config {
	return tsdbimport.Config{Input: in, Dir: t.TempDir(), WorkDir: t.TempDir(), Memory: 64 << 20, ExternalLabels: labels.FromStrings("cluster", "a")}
}

// stored returns the samples of the blocks as text.
func stored(t *testing.T, r *tsdbimport.Report) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := tsdbimport.Blocks{Dirs: r.Dirs}.Each(t.Context(), func(l labels.Labels, s tsdbimport.Sample) error {
		out[fmt.Sprint(l, s.T)] = text(s)
		return nil
	})
	require.NoError(t, err)
	return out
}

func text(s tsdbimport.Sample) string {
	switch {
	case s.H != nil:
		return s.H.String()
	case s.FH != nil:
		return s.FH.String()
	}
	return fmt.Sprintf("%x", math.Float64bits(s.V))
}

// Samples of all kinds in random order, with times before 1970, times twice, and windows
// without samples, are those of the blocks.
func TestImport_KeepsTheFirstSampleOfEachTimeInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var in list
	want := map[string]string{}
	for i := range 20 {
		lset := labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
		for n := range 300 {
			s := tsdbimport.Sample{T: int64(n)*137_000 - 5*3600_000, V: rng.NormFloat64()}
			switch {
			case i%5 == 3:
				s.H, s.V = tsdbutil.GenerateTestHistogram(int64(n)), 0
			case i%5 == 4:
				s.FH, s.V = tsdbutil.GenerateTestFloatHistogram(int64(n)), 0
			case n%50 == 9:
				s.V = math.Float64frombits(value.StaleNaN)
			}
			in = append(in, entry{lset, s})
			want[fmt.Sprint(lset, s.T)] = text(s)
		}
	}
	rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
	n := len(in)
	in = append(in, in[:100]...) // again
	cfg := config(t, in)
	r, err := tsdbimport.Import(t.Context(), cfg)
	require.NoError(t, err)
	require.Equal(t, []uint64{20, uint64(n + 100), uint64(n)}, []uint64{r.Series, r.Read, r.Stored})
	require.Equal(t, want, stored(t, r))
	require.NoError(t, tsdbimport.Verify(t.Context(), in, r))
	for i, m := range r.Blocks {
		start := m.MinTime - (m.MinTime%7200_000+7200_000)%7200_000
		require.LessOrEqual(t, m.MaxTime, start+7200_000)
		_, err := block.Verify(t.Context(), r.Dirs[i])
		require.NoError(t, err)
	}
	again, err := tsdbimport.Import(t.Context(), config(t, in))
	require.NoError(t, err)
	for i := range r.Blocks {
		require.Equal(t, r.Blocks[i].ULID, again.Blocks[i].ULID)
	}
	entries, err := os.ReadDir(cfg.WorkDir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestVerify_FindsMissingOtherAndSurplusSamples(t *testing.T) {
	lset := labels.FromStrings("__name__", "m")
	var in list
	for n := range 100 {
		in = append(in, entry{lset, tsdbimport.Sample{T: int64(n) * 1000, V: float64(n)}})
	}
	r, err := tsdbimport.Import(t.Context(), config(t, in))
	require.NoError(t, err)
	other := slices.Clone(in)
	other[50].sample.V = -1
	require.ErrorContains(t, tsdbimport.Verify(t.Context(), other, r), "1 values differ")
	other = slices.Clone(in)
	other[50].sample.T++
	require.ErrorContains(t, tsdbimport.Verify(t.Context(), other, r), "1 of 100 samples are not in the blocks")
	require.ErrorContains(t, tsdbimport.Verify(t.Context(), in[:99], r), "the second reading has 99 samples")
	fewer := *r
	fewer.Read = 99
	require.ErrorContains(t, tsdbimport.Verify(t.Context(), in[:99], &fewer), "have 100 samples of 99")
}

func TestImport_RefusesWhatItCannotHold(t *testing.T) {
	cfg := config(t, list{})
	cfg.Memory, cfg.MemoryFlag = 500, "--memory"
	var many list
	for i := range 20 {
		many = append(many, entry{labels.FromStrings("__name__", fmt.Sprint("m", i)), tsdbimport.Sample{}})
	}
	cfg.Input = many
	_, err := tsdbimport.Import(t.Context(), cfg)
	require.ErrorContains(t, err, "--memory")
	for want, in := range map[string]list{
		"is not valid":  {{labels.FromStrings("__name__", "m", "a", "\xff"), tsdbimport.Sample{}}},
		"has no labels": {{labels.EmptyLabels(), tsdbimport.Sample{}}},
		"not plausible": farApart(),
		"timestamp 9223372036854775807 is not plausible":  {{labels.FromStrings("__name__", "m"), tsdbimport.Sample{T: math.MaxInt64}}},
		"timestamp -9223372036854775808 is not plausible": {{labels.FromStrings("__name__", "m"), tsdbimport.Sample{T: math.MinInt64}}},
		"histogram": {{labels.FromStrings("__name__", "m"), tsdbimport.Sample{H: &histogram.Histogram{PositiveSpans: []histogram.Span{{Length: 3}}}}}},
	} {
		_, err := tsdbimport.Import(t.Context(), config(t, in))
		require.ErrorContains(t, err, want)
	}
}

func farApart() (out list) {
	for i := range 20_000 {
		out = append(out, entry{labels.FromStrings("__name__", "m"), tsdbimport.Sample{T: int64(i) * 7200_000}})
	}
	return out
}

func TestTextInputs(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "in")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	read := func(in tsdbimport.Input) ([]string, error) {
		var out []string
		err := in.Each(t.Context(), func(l labels.Labels, s tsdbimport.Sample) error {
			out = append(out, fmt.Sprint(l, " ", s.T, " ", text(s)))
			return nil
		})
		return out, err
	}
	nan := fmt.Sprintf("%x", value.StaleNaN)
	got, err := read(tsdbimport.OpenMetrics{Path: file("# TYPE a counter\na_total{x=\"y\"} 1 1.5\na_total{x=\"y\"} 2 2\n# EOF\n")})
	require.NoError(t, err)
	require.Equal(t, []string{`{__name__="a_total", x="y"} 1500 3ff0000000000000`, `{__name__="a_total", x="y"} 2000 4000000000000000`}, got)
	got, err = read(tsdbimport.Victoria{Path: file(`{"metric":{"__name__":"a","x":""},"values":[1,null,"Infinity"],"timestamps":[1,2,3]}` + "\n\n")})
	require.NoError(t, err)
	require.Equal(t, []string{`{__name__="a"} 1 3ff0000000000000`, `{__name__="a"} 2 ` + nan, `{__name__="a"} 3 7ff0000000000000`}, got)

	line, err := json.Marshal(map[string]any{"metric": map[string]string{"a": "b"}, "values": []int{1}, "timestamps": []int{1, 2}})
	require.NoError(t, err)
	for want, in := range map[string]tsdbimport.Input{
		"without a timestamp":       tsdbimport.OpenMetrics{Path: file("a 1\n# EOF\n")},
		"does not end with # EOF":   tsdbimport.OpenMetrics{Path: file("a 1 1\n")},
		"1 values and 2 timestamps": tsdbimport.Victoria{Path: file(string(line))},
		"line 1 of":                 tsdbimport.Victoria{Path: file("{")},
		`"many" is not a number`:    tsdbimport.Victoria{Path: file(`{"metric":{"a":"b"},"values":["many"],"timestamps":[1]}`)},
		"token too long":            tsdbimport.Victoria{Path: file(strings.Repeat(" ", 64<<20+1))},
	} {
		_, err := read(in)
		require.ErrorContains(t, err, want)
	}
}
