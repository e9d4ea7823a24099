package multitsdb

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
)

// Unshipped counts what is on this node and not in the bucket.
type Unshipped struct {
	// Series in heads; 0 after a flush without writes since.
	Series uint64 `json:"head_series"`
	// Blocks that are not in the bucket.
	Blocks int `json:"blocks_not_uploaded"`
	// Unopened tenants may have anything that is not in the bucket.
	Unopened int `json:"tenants_not_opened,omitempty"`
}

// Unshipped counts what is on this node alone.
func (d *DB) Unshipped() (out Unshipped) {
	for _, v := range d.views() {
		switch {
		case v.tenant != nil:
			out.Series += v.tenant.db.Head().NumSeries()
			for _, b := range v.tenant.db.Blocks() {
				if s := v.tenant.shipper; s == nil || !s.Shipped(b.Meta().ULID) {
					out.Blocks++
				}
			}
		case v.idle == nil:
		case v.life.Extent == lifecycle.Unknown:
			out.Unopened++
		case d.cfg.NewShipper == nil:
			out.Blocks += len(v.idle.blocks)
		}
	}
	return out
}

// Cardinality is the TSDB status of one tenant, as Prometheus names its parts.
type Cardinality struct {
	Tenant         string    `json:"tenant"`
	Head           HeadStats `json:"headStats"`
	SeriesByMetric []Count   `json:"seriesCountByMetricName"`
	ValuesByLabel  []Count   `json:"labelValueCountByLabelName"`
	MemoryByLabel  []Count   `json:"memoryInBytesByLabelName"`
	SeriesByPair   []Count   `json:"seriesCountByLabelValuePair"`
}

// HeadStats describes a head.
type HeadStats struct {
	Series     uint64 `json:"numSeries"`
	LabelPairs int    `json:"numLabelPairs"`
	MinTime    int64  `json:"minTime"`
	MaxTime    int64  `json:"maxTime"`
}

// Count is a named number.
type Count struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Cardinality returns the status of the named tenant, or of all when only is
// empty, with at most limit entries in each list.
func (d *DB) Cardinality(only string, limit int) []Cardinality {
	out := []Cardinality{}
	for _, t := range d.all() {
		if only != "" && t.id != only {
			continue
		}
		s := t.db.Head().Stats(model.MetricNameLabel, limit)
		c := Cardinality{Tenant: t.id, Head: HeadStats{Series: s.NumSeries, MinTime: s.MinTime, MaxTime: s.MaxTime}}
		if p := s.IndexPostingStats; p != nil {
			c.Head.LabelPairs = p.NumLabelPairs
			c.SeriesByMetric = counts(p.CardinalityMetricsStats)
			c.ValuesByLabel = counts(p.CardinalityLabelStats)
			c.MemoryByLabel = counts(p.LabelValueStats)
			c.SeriesByPair = counts(p.LabelValuePairsStats)
		}
		out = append(out, c)
	}
	return out
}

func counts(in []index.Stat) []Count {
	out := make([]Count, len(in))
	for i, s := range in {
		out[i] = Count{s.Name, s.Count}
	}
	return out
}
