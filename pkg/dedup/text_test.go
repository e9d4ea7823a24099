package dedup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn/sampletext"
)

// TestTexts runs the cases in testdata; -rewrite writes the results into them.
//
// A line of the input is one replica (or, for union, one part; for chunks, the
// chunks of one source): its name and its samples as sampletext reads them. "|"
// begins a new chunk.
//
// A line of the result holds the samples taken from one replica, up to the next
// change of replica. "?" marks a histogram whose counter reset hint is unknown.
func TestTexts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.Contains(path, "fuzz") || strings.Contains(path, "replicalabels") {
			return
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			in := parseReplicas(t, d)
			switch d.Cmd {
			case "coverage":
				counter := d.HasArg("counter")
				return in.print(t, drain(covered(in.replicas(), modeOf(counter))), counter)
			case "chain":
				return in.print(t, drain(FuncChain.Merge(in.replicas(), Options{})), false)
			case "union":
				return in.print(t, drain(Union(in.replicas(), everything())), false)
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
			samples, err := sampletext.Parse(w)
			require.NoError(t, err)
			last := &replica[len(replica)-1]
			for _, s := range samples {
				*last = append(*last, sample{t: s.T, v: s.V, h: s.H})
			}
		}
		in.chunks = append(in.chunks, replica)
	}
	return in
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
	out := sampletext.Sample{T: s.t, V: s.v, H: s.h}.String()
	if s.h != nil && s.h.CounterResetHint == histogram.UnknownCounterReset {
		out += "?"
	}
	return out
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
	in := make([]sampletext.Sample, len(samples))
	for i, s := range samples {
		in[i] = sampletext.Sample{T: s.t, V: s.v, H: s.h}
	}
	c, err := sampletext.Encode(in)
	require.NoError(t, err)
	return chunks.Meta{MinTime: samples[0].t, MaxTime: samples[len(samples)-1].t, Chunk: c}
}
