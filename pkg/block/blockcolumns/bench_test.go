package blockcolumns_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
)

// nodes are the series of node_cpu_seconds_total of so many hosts of 8 CPUs, of two hours.
func nodes(n int) string {
	var b strings.Builder
	for i := range n {
		for cpu := range 8 {
			for _, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
				fmt.Fprintf(&b, "node_cpu_seconds_total{cluster=\"eu\",job=\"node\",instance=\"10.0.%d.%d:9100\",cpu=\"%d\",mode=%q} 0s..2h/15s:%d+%.2f\n", i/250, i%250, cpu, mode, i, 0.25*float64(cpu))
			}
		}
	}
	return b.String()
}

func BenchmarkWrite(b *testing.B) {
	const hosts, samples = 100, 100 * 64 * 480
	dir := blockDir(b, seriesOf(b, nodes(hosts)))
	b.ReportAllocs()
	var size int64
	for b.Loop() {
		o, err := blockcolumns.Write(b.Context(), io.Discard, dir)
		if err != nil {
			b.Fatal(err)
		}
		size = o.Size
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
	b.ReportMetric(float64(size)/samples, "B/sample")
}

// BenchmarkSearch looks for 8 series of the 256 of a segment.
func BenchmarkSearch(b *testing.B) {
	o := objectOf(b, seriesOf(b, nodes(40)))
	ms := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "instance", "10.0.0.17:9100"), labels.MustNewMatcher(labels.MatchEqual, "mode", "idle"),
	}
	const name = "node_cpu_seconds_total"
	b.Run("directory", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, found, err := o.metric(name); err != nil || !found {
				b.Fatal(err)
			}
		}
	})
	m, _, err := o.metric(name)
	require.NoError(b, err)
	segments := m.Candidates(ms)
	require.Len(b, segments, 1)
	require.Equal(b, 256, segments[0].Series)
	index := o.part(segments[0].Index)
	b.Logf("an index of %d bytes for %d series", len(index), segments[0].Series)
	b.Run("segment", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			search, _ := m.Search(name, ms)
			found, err := search.Append(nil, segments[0], index)
			if err != nil || len(found) != 8 {
				b.Fatal(len(found), err)
			}
		}
	})
}
