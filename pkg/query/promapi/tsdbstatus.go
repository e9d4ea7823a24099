package promapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

type headStatsJSON struct {
	Series     uint64 `json:"numSeries"`
	LabelPairs int64  `json:"numLabelPairs"`
	Chunks     int64  `json:"chunkCount"`
	MinTime    int64  `json:"minTime"`
	MaxTime    int64  `json:"maxTime"`
}

type tsdbStatusJSON struct {
	Head           headStatsJSON         `json:"headStats"`
	SeriesByMetric []storeapi.NamedCount `json:"seriesCountByMetricName"`
	ValuesByLabel  []storeapi.NamedCount `json:"labelValueCountByLabelName"`
	MemoryByLabel  []storeapi.NamedCount `json:"memoryInBytesByLabelName"`
	SeriesByPair   []storeapi.NamedCount `json:"seriesCountByLabelValuePair"`
}

// tsdbStatus answers the statistics of all TSDBs together. match[] chooses them
// by their external labels.
func (a *API) tsdbStatus(w http.ResponseWriter, r *http.Request) {
	l := listRequestOf(r, a.cfg.Lists.TSDBStatusPartial)
	limit := storeapi.DefaultTSDBStatusLimit
	if text := r.Form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > storeapi.MaxTSDBStatusLimit {
			badData(w, fmt.Errorf("invalid parameter \"limit\": %q is not a number from 1 to %d", text, storeapi.MaxTSDBStatusLimit))
			return
		}
		limit = n
	}
	sets, err := a.matchers(r, l.params.Enforced)
	if err != nil {
		badData(w, err)
		return
	}
	var found map[string]storeapi.TSDBStats
	var warnings []string
	if a.cfg.Lists.TSDBStatus != nil {
		var ws storeapi.Warnings
		found, ws, err = a.cfg.Lists.TSDBStatus.TSDBStatus(r.Context(), &storeapi.TSDBStatusRequest{
			Limit: limit, Matchers: slices.Concat(sets...), Partial: l.partial, StoreMatchers: l.params.StoreMatchers,
		})
		if err != nil {
			writeListError(w, r, "collect TSDB statistics", err)
			return
		}
		maps.DeleteFunc(found, func(id string, _ storeapi.TSDBStats) bool { return id != "" && !tenant.Includes(r.Context(), id) })
		warnings = reported(r.Context(), ws)
	}
	s := storeapi.MergeTSDBStats(slices.Collect(maps.Values(found)), limit)
	writeData(w, tsdbStatusJSON{
		Head: headStatsJSON{
			Series: s.Series, LabelPairs: s.LabelPairs, Chunks: s.Chunks, MinTime: s.MinTime, MaxTime: s.MaxTime,
		},
		SeriesByMetric: s.SeriesByMetric, ValuesByLabel: s.ValuesByLabel, MemoryByLabel: s.MemoryByLabel, SeriesByPair: s.SeriesByPair,
	}, warnings)
}
