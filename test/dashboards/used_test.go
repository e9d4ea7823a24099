package dashboards

import (
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
)

// usedBytes counts the bytes that a reader needs of all blocks for a query with one selector:
// those of the chunks of its series in the columns objects, without directories and indexes.
func (s *site) usedBytes(query string) (used int64) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	require.NoError(s.b, err)
	ms := parser.ExtractSelectors(expr)[0]
	files, err := filepath.Glob(filepath.Join(s.dir, "s3", "bench", "*", "columns-v1-*"))
	require.NoError(s.b, err)
	require.NotEmpty(s.b, files)
	for _, file := range files {
		used += s.usedOf(file, ms)
	}
	require.NotZero(s.b, used)
	return used
}

func (s *site) usedOf(file string, ms []*labels.Matcher) (used int64) {
	o, ok := blockcolumns.ParseName(filepath.Base(file))
	require.True(s.b, ok)
	f, err := os.Open(file)
	require.NoError(s.b, err)
	defer f.Close()
	read := func(span blockcolumns.Span) []byte {
		b := make([]byte, span.Len())
		_, err := io.ReadFull(io.NewSectionReader(f, span.Off, span.Len()), b)
		require.NoError(s.b, err)
		return b
	}
	d, err := blockcolumns.ParseDirectory(o, read(o.DirectorySpan()))
	require.NoError(s.b, err)
	var name string
	for _, m := range ms {
		if m.Name == model.MetricNameLabel {
			name = m.Value
		}
	}
	m, found, err := d.Metric(name)
	require.NoError(s.b, err)
	require.True(s.b, found)
	search, ok := m.Search(name, ms)
	require.True(s.b, ok)
	var series []blockcolumns.Found
	for _, segment := range m.Segments {
		series, err = search.Append(series, segment, read(segment.Index))
		require.NoError(s.b, err)
	}
	for _, f := range series {
		used += f.Chunks.Len()
	}
	return used
}
