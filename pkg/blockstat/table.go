package blockstat

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Row is what the series of one metric, label, label value or tenant take.
type Row struct {
	// By is one of the constants below.
	By   string `json:"by" yaml:"by"`
	Name string `json:"name" yaml:"name"`
	// Values is the number of values of a label, in all blocks together at most.
	Values uint64 `json:"values,omitempty" yaml:"values,omitempty"`
	// Series counts a series once for each block.
	Series uint64 `json:"series" yaml:"series"`
	Chunks uint64 `json:"chunks" yaml:"chunks"`
	// Samples is exact for tenants. For other rows it is an estimate: the samples of the
	// block are shared out by the number of chunks.
	Samples uint64 `json:"samples" yaml:"samples"`
	// ChunkBytes are those of the chunks of the series. IndexBytes are those of the
	// entries of the series in the index; of a label, those of its values and lists of
	// series.
	ChunkBytes int64 `json:"chunk_bytes" yaml:"chunk_bytes"`
	IndexBytes int64 `json:"index_bytes" yaml:"index_bytes"`
	// Churn is how many of the series are missing on average at one time: series that
	// begin or end inside of the block make it large.
	Churn float64 `json:"churn" yaml:"churn"`

	samples float64
}

// The values of Row.By.
const (
	byTotal  = "total"
	ByTenant = "tenant"
	ByMetric = "metric"
	ByLabel  = "label"
	byPair   = "label_value"
)

// add adds the costs of another row.
func (r *Row) add(o *Row) {
	r.Values = max(r.Values, o.Values)
	r.Series += o.Series
	r.Chunks += o.Chunks
	r.ChunkBytes += o.ChunkBytes
	r.IndexBytes += o.IndexBytes
	r.Churn += o.Churn
	r.samples += o.samples
}

// table adds up rows by name. It holds a bounded number of them: beyond it, the smallest
// become part of the rest.
type table struct {
	by   string
	rows map[string]*Row
	// rest is the sum of the rows that were given up; rested says whether there are any.
	rest   Row
	rested bool
}

// maxRows bounds the rows of a table.
const maxRows = 100_000

// restName is the name of the row of the rest, which is no name of a metric or label.
const restName = "(others)"

func newTable(by string) *table { return &table{by: by, rows: map[string]*Row{}} }

// maxName is the number of bytes up to which names are told apart, and printed.
const maxName = 1024

// row returns the row of a name, which the caller does not keep. The name is cloned.
func (t *table) row(name string) *Row {
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "") + "..."
	}
	r := t.rows[name]
	if r == nil {
		if len(t.rows) >= maxRows {
			t.shrink()
		}
		name = strings.Clone(name)
		r = &Row{By: t.by, Name: name}
		t.rows[name] = r
	}
	return r
}

// shrink gives up the smaller half of the rows.
func (t *table) shrink() {
	sorted := t.sorted()
	for _, r := range sorted[len(sorted)/2:] {
		t.rest.add(r)
		delete(t.rows, r.Name)
	}
	t.rested = true
}

// size is what rows are sorted by.
func (r *Row) size() int64 { return r.ChunkBytes + r.IndexBytes }

func (t *table) sorted() []*Row {
	return slices.SortedFunc(maps.Values(t.rows), func(a, b *Row) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Name, b.Name))
	})
}

// top returns the n largest rows, and the rest of the others. 0 is all.
func (t *table) top(n int) []Row {
	sorted := t.sorted()
	rest, rested := t.rest, t.rested
	if n > 0 && len(sorted) > n {
		for _, r := range sorted[n:] {
			rest.add(r)
		}
		sorted, rested = sorted[:n], true
	}
	var out []Row
	for _, r := range sorted {
		out = append(out, r.rounded())
	}
	if rested && t.by != ByLabel && t.by != byPair { // these count a series more than once
		rest.By, rest.Name = t.by, restName
		out = append(out, rest.rounded())
	}
	return out
}

func (r Row) rounded() Row {
	r.Samples = max(r.Samples, uint64(r.samples+0.5))
	return r
}
