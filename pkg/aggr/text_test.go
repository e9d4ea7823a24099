package aggr_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn/sampletext"
)

// TestTexts runs the cases in testdata; -rewrite writes the results into them.
//
// Samples are as sampletext reads them. The aggregates of a window are dated at its
// last millisecond, as "300-".
//
// The commands work on the chunks of one series. "chunks" sets them: a line "raw"
// is a raw chunk, lines "count", "sum", "min", "max" and "counter" are the
// aggregates of one chunk, in this order. "downsample to=5m" replaces them by
// chunks of windows. "read func=rate" reads them as the query engine does, and
// "resolution" prints the resolution of each chunk.
func TestTexts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		var series textSeries
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "chunks":
				series = parseSeries(t, d.Input)
				return fmt.Sprintf("%d chunks", len(series))
			case "downsample":
				series = series.downsample(t, arg(t, d, "to"))
				return series.String()
			case "read":
				return series.read(t, d)
			case "resolution":
				var out []string
				for i := range series {
					out = append(out, resolutionName(aggr.Resolutions(series[i : i+1])[0]))
				}
				return strings.Join(out, " ")
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// textSeries are the chunks of one series.
type textSeries []storeapi.Chunk

func arg(t *testing.T, d *datadriven.TestData, key string) string {
	var s string
	d.ScanArgs(t, key, &s)
	return s
}

func resolution(t *testing.T, name string) int64 {
	for _, r := range []int64{0, aggr.Resolution5m, aggr.Resolution1h} {
		if resolutionName(r) == name {
			return r
		}
	}
	t.Fatalf("unknown resolution %q", name)
	return 0
}

func resolutionName(r int64) string {
	switch r {
	case aggr.Resolution5m:
		return "5m"
	case aggr.Resolution1h:
		return "1h"
	}
	return "raw"
}

func parseSeries(t *testing.T, text string) textSeries {
	var out textSeries
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		var samples []sampletext.Sample
		for _, w := range words[1:] {
			more, err := sampletext.Parse(w)
			require.NoError(t, err)
			samples = append(samples, more...)
		}
		c := storeapi.Chunk{MinTime: samples[0].T, MaxTime: samples[len(samples)-1].T}
		chk, err := sampletext.Encode(samples)
		require.NoError(t, err)
		d := storeapi.Data{Encoding: chk.Encoding(), Bytes: chk.Bytes()}
		if words[0] == "raw" {
			c.Raw = d
			out = append(out, c)
			continue
		}
		if words[0] == "count" {
			c.Aggr = &storeapi.Aggregates{}
			out = append(out, c)
		}
		*dataOf(out[len(out)-1].Aggr, words[0]) = d
	}
	return out
}

func dataOf(a *storeapi.Aggregates, name string) *storeapi.Data {
	return map[string]*storeapi.Data{"count": &a.Count, "sum": &a.Sum, "min": &a.Min, "max": &a.Max, "counter": &a.Counter}[name]
}

func (s textSeries) downsample(t *testing.T, to string) textSeries {
	from := int64(0)
	metas := make([]chunks.Meta, len(s))
	for i, c := range s {
		metas[i] = chunks.Meta{MinTime: c.MinTime, MaxTime: c.MaxTime}
		var err error
		if c.Aggr != nil {
			from = aggr.Resolution5m
			var b []byte
			b, err = aggr.Append(nil, c.Aggr)
			metas[i].Chunk = aggr.NewChunk(b)
		} else {
			metas[i].Chunk, err = chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
		}
		require.NoError(t, err)
	}
	res, err := downsample.New(from, resolution(t, to)).Series(metas)
	require.NoError(t, err)
	out := make(textSeries, len(res))
	for i, c := range res {
		a, err := aggr.Decode(c.Chunk.Bytes())
		require.NoError(t, err)
		out[i] = storeapi.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Aggr: &a}
	}
	return out
}

// String writes aggregate chunks as parseSeries reads them.
func (s textSeries) String() string {
	var out strings.Builder
	for _, c := range s {
		for _, name := range []string{"count", "sum", "min", "max", "counter"} {
			if d := *dataOf(c.Aggr, name); len(d.Bytes) > 0 {
				fmt.Fprintf(&out, "%-7s %s\n", name, printSamples(aggr.DataIterator(d)))
			}
		}
	}
	if out.Len() == 0 {
		return "no chunks"
	}
	return out.String()
}

func (s textSeries) read(t *testing.T, d *datadriven.TestData) string {
	v := aggr.View{Aggregates: aggr.ForFunc(arg(t, d, "func")), Count: d.HasArg("count"), Range: d.HasArg("range"), Middle: d.HasArg("middle")}
	if d.HasArg("grid") {
		v.Grid = resolution(t, arg(t, d, "grid"))
	}
	it := v.Iterator(s)
	out := printSamples(it)
	if err := it.Err(); err != nil {
		return strings.TrimSpace(out + "\nerror: " + err.Error())
	}
	return out
}

func printSamples(it chunkenc.Iterator) string {
	var out []string
	for _, s := range sampletext.Read(it) {
		out = append(out, s.String())
	}
	return strings.Join(out, " ")
}
