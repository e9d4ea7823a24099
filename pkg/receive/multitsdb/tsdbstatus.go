package multitsdb

import (
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// TSDBStatus returns the statistics of the heads of all open tenants that r
// chooses. Idle tenants have nothing in memory; one that cannot be opened is
// named in a warning. It implements storeapi.TSDBStatusStore.
func (d *DB) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	if err := d.Opened(); err != nil {
		return nil, nil, err
	}
	out := map[string]storeapi.TSDBStats{}
	for _, t := range d.all() {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if !r.ChoosesTSDB(d.cfg.External(t.id)) || !t.acquire() {
			continue
		}
		out[t.id] = t.tsdbStats(r.Limit)
		t.release()
	}
	var ws storeapi.Warnings
	for _, v := range d.views() {
		if v.life.Failures > 0 && v.idle != nil && r.ChoosesTSDB(d.cfg.External(v.id)) {
			ws = append(ws, storeapi.Warning{Text: fmt.Sprintf("tenant %s cannot be opened: %s", v.id, v.life.Err)})
		}
	}
	return out, ws, nil
}

// tsdbStats are those of an acquired tenant.
func (t *tenantDB) tsdbStats(limit int) storeapi.TSDBStats {
	s := t.db.Head().Stats(model.MetricNameLabel, limit)
	out := storeapi.TSDBStats{
		Series: s.NumSeries, MinTime: s.MinTime, MaxTime: s.MaxTime,
		Chunks: int64(t.registry.gauge("prometheus_tsdb_head_chunks")),
	}
	if p := s.IndexPostingStats; p != nil {
		out.LabelPairs = int64(p.NumLabelPairs)
		out.SeriesByMetric = namedCounts(p.CardinalityMetricsStats)
		out.ValuesByLabel = namedCounts(p.CardinalityLabelStats)
		out.MemoryByLabel = namedCounts(p.LabelValueStats)
		out.SeriesByPair = namedCounts(p.LabelValuePairsStats)
	}
	return out
}

func namedCounts(in []index.Stat) []storeapi.NamedCount {
	out := make([]storeapi.NamedCount, 0, len(in))
	for _, s := range in {
		out = append(out, storeapi.NamedCount{Name: s.Name, Value: s.Count})
	}
	return out
}

// gauge is the value of a registered gauge without labels, 0 when there is none:
// the head counts its chunks in its metrics only.
func (r *tenantRegisterer) gauge(name string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		g, ok := c.(prometheus.Gauge)
		if !ok || !strings.Contains(g.Desc().String(), `"`+name+`"`) {
			continue
		}
		var m dto.Metric
		if g.Write(&m) == nil {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}
