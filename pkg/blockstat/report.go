package blockstat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Config says which rows a Report has.
type Config struct {
	// Metrics, Labels and Pairs ask for rows by metric, by label name, and by label value.
	Metrics, Labels, Pairs bool
	// Values are labels, of series or external, by whose values there are rows.
	Values []string
	// TenantLabel is the external label whose values are tenants; empty is for no rows by
	// tenant.
	TenantLabel string
}

// Report adds up the costs of blocks. It serves one caller at a time.
type Report struct {
	cfg                             Config
	total                           Row
	tenants, metrics, labels, pairs *table
	wanted                          map[string]bool // labels of Config.Values
}

// New returns a report of no blocks.
func New(cfg Config) *Report {
	r := &Report{
		cfg: cfg, total: Row{By: byTotal}, tenants: newTable(ByTenant), metrics: newTable(ByMetric),
		labels: newTable(ByLabel), pairs: newTable(byPair), wanted: map[string]bool{},
	}
	for _, name := range cfg.Values {
		r.wanted[name] = true
	}
	return r
}

// Add adds a block. sizes are those of its files as listed. Without rows that need the
// series of the block, its index is not read. A block whose index cannot be read is not
// counted, except for series that were read before the damage.
func (r *Report) Add(ctx context.Context, b bucket.Reader, m *block.Meta, sizes map[string]int64) error {
	if !r.cfg.Metrics && !r.cfg.Labels && !r.cfg.Pairs && len(r.wanted) == 0 {
		r.addMeta(m, sizes)
		return nil
	}
	in := &input{bkt: b, id: m.ULID, sizes: sizes}
	h, err := in.header(ctx)
	if err != nil {
		return err
	}
	err = in.walk(ctx, h, r.seriesOf(m))
	if err == nil {
		r.addMeta(m, sizes)
		if r.cfg.Labels {
			r.addLabels(h)
		}
	}
	return errors.Join(err, h.Close())
}

// addMeta counts a block as a whole.
func (r *Report) addMeta(m *block.Meta, sizes map[string]int64) {
	row := Row{Series: m.Stats.NumSeries, Chunks: m.Stats.NumChunks, samples: float64(m.Stats.NumSamples)}
	for rel, size := range sizes {
		switch {
		case size < 0:
		case rel == block.IndexFile:
			row.IndexBytes += size
		case strings.HasPrefix(rel, block.ChunksDir+"/"):
			row.ChunkBytes += size
		}
	}
	r.total.add(&row)
	if r.cfg.TenantLabel != "" {
		r.tenants.row(m.Thanos.Labels[r.cfg.TenantLabel]).add(&row)
	}
}

// seriesOf returns the function that counts the series of a block.
func (r *Report) seriesOf(m *block.Meta) func(*series) {
	perChunk := 0.0
	if m.Stats.NumChunks > 0 {
		perChunk = float64(m.Stats.NumSamples) / float64(m.Stats.NumChunks)
	}
	span := float64(m.MaxTime - m.MinTime)
	return func(s *series) {
		row := Row{
			Series: 1, Chunks: uint64(s.chunks), ChunkBytes: s.chunkBytes, IndexBytes: s.entryBytes,
			samples: perChunk * float64(s.chunks),
		}
		if span > 0 {
			row.Churn = min(1, max(0, 1-float64(s.maxt-s.mint+1)/span))
		}
		r.total.Churn += row.Churn
		if r.cfg.Metrics {
			r.metrics.row(s.labels.Get("__name__")).add(&row)
		}
		s.labels.Range(func(l labels.Label) {
			if r.cfg.Labels {
				ofLabel := row
				ofLabel.IndexBytes = 0 // addLabels counts those of the label
				r.labels.row(l.Name).add(&ofLabel)
			}
			if r.cfg.Pairs || r.wanted[l.Name] {
				r.pairs.row(l.Name + "=" + l.Value).add(&row)
			}
		})
		for name := range r.wanted {
			if value := m.Thanos.Labels[name]; value != "" && !s.labels.Has(name) {
				r.pairs.row(name + "=" + value).add(&row)
			}
		}
	}
}

// addLabels counts the values of each label and the bytes of the index that they take.
func (r *Report) addLabels(h *indexheader.Header) {
	for _, name := range h.LabelNames() {
		l := h.Label(name)
		row := Row{Values: uint64(l.Len()), IndexBytes: int64(len(name))}
		for i := range l.Len() {
			row.IndexBytes += int64(len(l.Value(i))) + l.Postings(i).Length
		}
		r.labels.row(name).add(&row)
	}
}

// Rows returns the total, and for each table the n largest rows and the sum of the others;
// 0 is for all. A series counts for each of its labels, so that there are no sums of the
// rows by label and by label value.
func (r *Report) Rows(n int) []Row {
	out := []Row{r.total.rounded()}
	for _, t := range []*table{r.tenants, r.metrics, r.labels, r.pairs} {
		out = append(out, t.top(n)...)
	}
	return out
}

// FindBlock reads the meta.json of a block and lists its files with their sizes. It looks at
// each file of which the listing of the provider has no size, as that of S3. The error is
// bucket.ErrNotFound when the bucket has no such block, or no longer.
func FindBlock(ctx context.Context, b bucket.Reader, id ulid.ULID) (*block.Meta, map[string]int64, error) {
	m, err := block.ReadMeta(ctx, b, id)
	if err != nil {
		return nil, nil, err
	}
	sizes := map[string]int64{}
	err = b.List(ctx, id.String(), func(o bucket.Object) error {
		if of, rel, ok := block.ParsePath(o.Name); ok && of == id {
			sizes[rel] = o.Size
		}
		return nil
	})
	if err != nil {
		return m, nil, err
	}
	for _, rel := range slices.Sorted(maps.Keys(sizes)) {
		if sizes[rel] >= 0 {
			continue
		}
		o, err := b.Stat(ctx, block.Path(id, rel))
		if err != nil {
			return m, nil, fmt.Errorf("look at the size of %s: %w", block.Path(id, rel), err)
		}
		sizes[rel] = o.Size
	}
	return m, sizes, nil
}
