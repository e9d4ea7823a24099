package dedup

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

// TestTexts runs the cases in testdata; -rewrite writes the results into them.
//
// A line of the input is one replica (or, for union, one part; for chunks, the
// chunks of one source): its name and its samples as seconds:value. A value is a
// float, "stale", or a native histogram by its count: h5 has exponential buckets,
// c5 custom ones. "0..60/15:1+2" is every 15 s from 0 s to 60 s, the values are 1,
// 3, 5 and so on. "|" begins a new chunk.
//
// A line of the result holds the samples taken from one replica, up to the next
// change of replica. "?" marks a histogram whose counter reset hint is unknown.
func TestTexts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") {
			return
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			in := parseReplicas(t, d)
			switch d.Cmd {
			case "penalty":
				counter := d.HasArg("counter")
				return in.print(t, drain(Penalty(in.replicas(), counter)), counter)
			case "chain":
				return in.print(t, drain(FuncChain.Merge(in.replicas(), false)), false)
			case "union":
				return in.print(t, drain(Union(in.replicas())), false)
			case "chunks":
				var f string
				d.ScanArgs(t, "func", &f)
				return in.mergeChunks(t, Func(f))
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// textReplicas are the lines of a case.
type textReplicas struct {
	interval int64
	names    []string
	chunks   [][][]sample
}

func parseReplicas(t *testing.T, d *datadriven.TestData) textReplicas {
	in := textReplicas{interval: 15000}
	if d.HasArg("interval") {
		d.ScanArgs(t, "interval", &in.interval)
		in.interval *= 1000
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		in.names = append(in.names, words[0])
		replica := [][]sample{nil}
		for _, w := range words[1:] {
			if w == "|" {
				replica = append(replica, nil)
				continue
			}
			last := &replica[len(replica)-1]
			*last = append(*last, parseSamples(t, w)...)
		}
		in.chunks = append(in.chunks, replica)
	}
	return in
}

// parseSamples reads "time:value" or "from..to/step:value+growth".
func parseSamples(t *testing.T, word string) []sample {
	times, val, ok := strings.Cut(word, ":")
	require.True(t, ok, "%q has no colon", word)
	if val == "stale" {
		return []sample{{t: seconds(t, times), v: staleNaN}}
	}
	kind := strings.TrimRight(val[:1], "-0123456789")
	first, growth, _ := strings.Cut(val[len(kind):], "+")
	v, err := strconv.ParseFloat(first, 64)
	require.NoError(t, err, word)
	from, rest, isRange := strings.Cut(times, "..")
	if !isRange {
		return []sample{textSample(seconds(t, times), v, kind)}
	}
	to, every, _ := strings.Cut(rest, "/")
	by := 0.0
	if growth != "" {
		by, err = strconv.ParseFloat(growth, 64)
		require.NoError(t, err, word)
	}
	var out []sample
	for at := seconds(t, from); at <= seconds(t, to); at += seconds(t, every) {
		out = append(out, textSample(at, v, kind))
		v += by
	}
	return out
}

func seconds(t *testing.T, s string) int64 {
	f, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return int64(math.Round(f * 1000))
}

// textSample makes a histogram of the count v for the kinds h and c.
func textSample(at int64, v float64, kind string) sample {
	s := sample{t: at, v: v}
	if kind == "" {
		return s
	}
	s = sample{t: at, h: &histogram.FloatHistogram{
		Count: v, Sum: 2 * v, CounterResetHint: histogram.NotCounterReset,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{v / 4, v * 3 / 4},
	}}
	if kind == "c" {
		s.h.Schema, s.h.CustomValues = histogram.CustomBucketsSchema, []float64{1, 5}
	}
	return s
}

func (in textReplicas) replicas() []Replica {
	out := make([]Replica, len(in.chunks))
	for i, parts := range in.chunks {
		var all []sample
		for _, p := range parts {
			all = append(all, p...)
		}
		out[i] = Replica{Samples: newListIter(all), Interval: in.interval}
	}
	return out
}

// print writes the samples, a line for each change of replica. The values of
// counters may be raised, so only their times say where they are from.
func (in textReplicas) print(t *testing.T, merged []sample, counter bool) string {
	var out strings.Builder
	cur := -1
	for _, s := range merged {
		from := cur
		if from < 0 || !in.has(from, s, counter) {
			from = 0
			for from < len(in.names) && !in.has(from, s, counter) {
				from++
			}
			require.Less(t, from, len(in.names), "the sample %s is of no replica", printSample(s))
		}
		if from != cur {
			if cur >= 0 {
				out.WriteByte('\n')
			}
			out.WriteString(in.names[from])
		}
		cur = from
		out.WriteString(" " + printSample(s))
	}
	return out.String()
}

func (in textReplicas) has(replica int, s sample, counter bool) bool {
	for _, c := range in.chunks[replica] {
		for _, o := range c {
			if o.t == s.t && (counter || printSample(o) == strings.TrimSuffix(printSample(s), "?")) {
				return true
			}
		}
	}
	return false
}

func printSample(s sample) string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	val := number(s.v)
	switch {
	case s.h != nil && s.h.UsesCustomBuckets():
		val = "c" + number(s.h.Count)
	case s.h != nil:
		val = "h" + number(s.h.Count)
	case value.IsStaleNaN(s.v):
		val = "stale"
	}
	if s.h != nil && s.h.CounterResetHint == histogram.UnknownCounterReset {
		val += "?"
	}
	return number(float64(s.t)/1000) + ":" + val
}

// mergeChunks runs a Merger over the chunks of all sources and prints a line for
// each chunk of the result: whether it is one of the input, and its samples.
func (in textReplicas) mergeChunks(t *testing.T, f Func) string {
	var metas []chunks.Meta
	var sources []int
	for source, parts := range in.chunks {
		for _, p := range parts {
			metas = append(metas, encodeSamples(t, p))
			sources = append(sources, source)
		}
	}
	m := NewMerger(f)
	out, err := m.Chunks(metas, sources)
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return "error: " + err.Error()
	}
	var text strings.Builder
	for _, c := range out {
		word := "new"
		for _, o := range metas {
			if same(o, c) {
				word = "as it was"
			}
		}
		text.WriteString(word + ":")
		for _, s := range drain(c.Chunk.Iterator(nil)) {
			text.WriteString(" " + strings.TrimSuffix(printSample(s), "?"))
		}
		text.WriteByte('\n')
	}
	fmt.Fprintf(&text, "%d samples dropped", m.Dropped())
	return text.String()
}

// encodeSamples makes one chunk of samples of one type.
func encodeSamples(t *testing.T, samples []sample) chunks.Meta {
	var c chunkenc.Chunk = chunkenc.NewXORChunk()
	if samples[0].h != nil {
		c = chunkenc.NewFloatHistogramChunk()
	}
	app, err := c.Appender()
	require.NoError(t, err)
	for _, s := range samples {
		if s.h == nil {
			app.Append(0, s.t, s.v)
			continue
		}
		var cut bool
		_, cut, app, err = app.AppendFloatHistogram(nil, 0, s.t, s.h, true)
		require.NoError(t, err)
		require.False(t, cut, "one chunk cannot hold the samples")
	}
	return chunks.Meta{MinTime: samples[0].t, MaxTime: samples[len(samples)-1].t, Chunk: c}
}
