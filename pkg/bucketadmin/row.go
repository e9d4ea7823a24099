package bucketadmin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// Row is one complete block of a bucket.
type Row struct {
	ULID string `json:"ulid" yaml:"ulid"`
	// From is inclusive, Until exclusive, both in RFC 3339.
	From  string `json:"from" yaml:"from"`
	Until string `json:"until" yaml:"until"`
	Range string `json:"range" yaml:"range"`
	// UntilDownsampling is the time that the range lacks to be downsampled; "-" for
	// ranges that are long enough and for the coarsest resolution.
	UntilDownsampling string            `json:"until_downsampling" yaml:"until_downsampling"`
	Series            uint64            `json:"series" yaml:"series"`
	Samples           uint64            `json:"samples" yaml:"samples"`
	Chunks            uint64            `json:"chunks" yaml:"chunks"`
	Bytes             int64             `json:"bytes" yaml:"bytes"`
	Level             int               `json:"compaction_level" yaml:"compaction_level"`
	Failed            bool              `json:"compaction_failed" yaml:"compaction_failed"`
	Labels            map[string]string `json:"labels" yaml:"labels"`
	Resolution        string            `json:"resolution" yaml:"resolution"`
	Source            string            `json:"source" yaml:"source"`
	// Marks are the names of the block's marks, without ".json".
	Marks []string `json:"marks,omitempty" yaml:"marks,omitempty"`

	meta *block.Meta
	left time.Duration // UntilDownsampling
}

// Rows returns the blocks of a view with all the labels that the matchers ask for,
// in ascending order of ULID.
func Rows(v *blocklist.View, matchers []*labels.Matcher) []Row {
	out := make([]Row, 0, len(v.Metas))
	for id, m := range v.Metas {
		if matches(m, matchers) {
			out = append(out, rowOf(v, id, m))
		}
	}
	slices.SortFunc(out, func(a, b Row) int { return cmp.Compare(a.ULID, b.ULID) })
	return out
}

// matches says whether the external labels of a block satisfy all matchers. A label
// that is absent has the empty value.
func matches(m *block.Meta, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(l *labels.Matcher) bool { return !l.Matches(m.Thanos.Labels[l.Name]) })
}

func rowOf(v *blocklist.View, id ulid.ULID, m *block.Meta) Row {
	span := time.Duration(m.MaxTime-m.MinTime) * time.Millisecond
	r := Row{
		ULID: id.String(), From: stamp(m.MinTime), Until: stamp(m.MaxTime), Range: span.String(), UntilDownsampling: "-",
		Series: m.Stats.NumSeries, Samples: m.Stats.NumSamples, Chunks: m.Stats.NumChunks, Bytes: v.Bytes(id),
		Level: m.Compaction.Level, Failed: m.Compaction.Failed, Labels: m.Thanos.Labels,
		Resolution: plan.ResolutionName(m.Resolution()), Source: string(m.Thanos.Source), meta: m,
	}
	if r.left = max(0, plan.DownsampleRange(m.Resolution())-span); r.left > 0 {
		r.UntilDownsampling = r.left.String()
	}
	if v.Deletion[id] != nil {
		r.Marks = append(r.Marks, "deletion-mark")
	}
	if v.NoCompact[id] != nil {
		r.Marks = append(r.Marks, "no-compact-mark")
	}
	if v.NoDownsample[id] != nil {
		r.Marks = append(r.Marks, "no-downsample-mark")
	}
	return r
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// column is one column of the table of blocks.
type column struct {
	name    string
	cell    func(r *Row) string
	compare func(a, b *Row) int
}

// columnBy makes a column of a value, by which it is sorted.
func columnBy[T cmp.Ordered](name string, value func(r *Row) T, cell func(r *Row) string) column {
	return column{name: name, cell: cell, compare: func(a, b *Row) int { return cmp.Compare(value(a), value(b)) }}
}

func textColumn(name string, cell func(r *Row) string) column { return columnBy(name, cell, cell) }

func countColumn(name string, value func(r *Row) uint64) column {
	return columnBy(name, value, func(r *Row) string { return strconv.FormatUint(value(r), 10) })
}

// columns returns the columns in their order. The names are those of Thanos, and after
// them SIZE and MARKS.
func columns() []column {
	return []column{
		textColumn("ULID", func(r *Row) string { return r.ULID }),
		columnBy("FROM", func(r *Row) int64 { return r.meta.MinTime }, func(r *Row) string { return r.From }),
		columnBy("UNTIL", func(r *Row) int64 { return r.meta.MaxTime }, func(r *Row) string { return r.Until }),
		columnBy("RANGE", func(r *Row) int64 { return r.meta.MaxTime - r.meta.MinTime }, func(r *Row) string { return r.Range }),
		columnBy("UNTIL-DOWN", func(r *Row) int64 { return int64(r.left) }, func(r *Row) string { return r.UntilDownsampling }),
		countColumn("#SERIES", func(r *Row) uint64 { return r.Series }),
		countColumn("#SAMPLES", func(r *Row) uint64 { return r.Samples }),
		countColumn("#CHUNKS", func(r *Row) uint64 { return r.Chunks }),
		columnBy("COMP-LEVEL", func(r *Row) int { return r.Level }, func(r *Row) string { return strconv.Itoa(r.Level) }),
		textColumn("COMP-FAILED", func(r *Row) string { return strconv.FormatBool(r.Failed) }),
		textColumn("LABELS", func(r *Row) string { return strings.Trim(labels.FromMap(r.Labels).String(), "{}") }),
		columnBy("RESOLUTION", func(r *Row) int64 { return r.meta.Resolution() }, func(r *Row) string { return r.Resolution }),
		textColumn("SOURCE", func(r *Row) string { return r.Source }),
		columnBy("SIZE", func(r *Row) int64 { return r.Bytes }, func(r *Row) string { return strconv.FormatInt(r.Bytes, 10) }),
		textColumn("MARKS", func(r *Row) string { return strings.Join(r.Marks, ",") }),
	}
}

// Columns returns the names of the columns of Table.
func Columns() []string {
	var out []string
	for _, c := range columns() {
		out = append(out, c.name)
	}
	return out
}

// SortRows sorts by the named columns, the first being the most significant, with any
// case; blocks that are equal in them keep their order.
func SortRows(rows []Row, names []string) error {
	var by []column
	for _, name := range names {
		i := slices.IndexFunc(columns(), func(c column) bool { return c.name == strings.ToUpper(name) })
		if i < 0 {
			return fmt.Errorf("no column is called %q (the columns are %s)", name, strings.Join(Columns(), ", "))
		}
		by = append(by, columns()[i])
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		for _, c := range by {
			if n := c.compare(&a, &b); n != 0 {
				return n
			}
		}
		return 0
	})
	return nil
}

// Table returns the cells of the rows, in the order of Columns.
func Table(rows []Row) [][]string {
	cols := columns()
	out := make([][]string, 0, len(rows))
	for i := range rows {
		cells := make([]string, 0, len(cols))
		for _, c := range cols {
			cells = append(cells, c.cell(&rows[i]))
		}
		out = append(out, cells)
	}
	return out
}
