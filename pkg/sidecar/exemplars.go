package sidecar

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Exemplars returns the exemplars that the server has in memory. A matcher on an
// external label applies to that label, also where stored series have the same
// name.
func (s *promStore) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	id, err := s.source.current()
	if err != nil {
		return nil, nil, err
	}
	mint, maxt := max(r.MinTime, s.minTime(time.Now())), r.MaxTime
	q := prom.ExemplarQuery{Selectors: storeapi.PruneSelectors(id.external, r.Selectors)}
	if len(q.Selectors) == 0 || mint > maxt {
		return nil, nil, nil
	}
	// Requests whose times differ little are one request to the server.
	q.MinTime, q.MaxTime = roundDown(mint, exemplarRange), roundUp(maxt, exemplarRange)
	about := question{api: apiExemplars, subject: q.Text(), span: fmt.Sprint(q.MinTime, q.MaxTime)}
	found, err := ask(ctx, s.answers, about, func(ctx context.Context) (prom.Answer[[]exemplar.QueryResult], error) {
		return s.source.client.Exemplars(ctx, q)
	})
	if err != nil {
		return nil, nil, failed(s.source, err)
	}
	return storeapi.ExternalExemplars(id.external, between(found.Data, mint, maxt)), marked(s, found), nil
}

// exemplarRange is what the bounds of requests for exemplars are rounded to, in
// milliseconds.
const exemplarRange = 10_000

func roundDown(t, to int64) int64 {
	if t < math.MinInt64+to {
		return t
	}
	return t - (t%to+to)%to
}

func roundUp(t, to int64) int64 {
	if t > math.MaxInt64-to {
		return t
	}
	return t + (to-t%to)%to
}

// between copies the exemplars of the time range.
func between(all []exemplar.QueryResult, mint, maxt int64) []exemplar.QueryResult {
	out := make([]exemplar.QueryResult, 0, len(all))
	for _, s := range all {
		chosen := exemplar.QueryResult{SeriesLabels: s.SeriesLabels}
		for _, e := range s.Exemplars {
			if e.Ts >= mint && e.Ts <= maxt {
				chosen.Exemplars = append(chosen.Exemplars, e)
			}
		}
		if len(chosen.Exemplars) > 0 {
			out = append(out, chosen)
		}
	}
	return out
}

var _ storeapi.ExemplarStore = (*promStore)(nil)
