package storerpc

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// tenantsInFrame is how many tenants' statistics are sent at once.
const tenantsInFrame = 100

// RegisterStatus serves s as thanos.Status.
func RegisterStatus(r grpc.ServiceRegistrar, s storeapi.TSDBStatusStore) {
	storepb.RegisterStatusServer(r, &statusServer{store: s})
}

type statusServer struct{ store storeapi.TSDBStatusStore }

// TSDBStatistics implements the service: it streams the statistics by tenant,
// tenantsInFrame to a message. A tenant in the request excludes all others but the
// empty one, which stands for stores without tenants. The limit of a request is
// capped at MaxTSDBStatusLimit.
func (s *statusServer) TSDBStatistics(in *storepb.TSDBStatisticsRequest, stream grpc.ServerStreamingServer[storepb.TSDBStatisticsResponse]) error {
	ms, err := matchersFromWire(in.GetMatchers())
	if err != nil {
		return toStatus(err)
	}
	r := &storeapi.TSDBStatusRequest{
		Limit: int(in.GetLimit()), Matchers: ms, Partial: strategyFromWire(false, in.GetPartialResponseStrategy()),
	}
	if r.Limit < 1 {
		r.Limit = storeapi.DefaultTSDBStatusLimit
	}
	r.Limit = min(r.Limit, storeapi.MaxTSDBStatusLimit)
	found, ws, err := s.store.TSDBStatus(incoming(stream.Context()), r)
	if err != nil {
		return toStatus(err)
	}
	if err := sendWarnings("TSDB statistics", r.Partial, ws, func(w string) error {
		return stream.Send(&storepb.TSDBStatisticsResponse{Result: &storepb.TSDBStatisticsResponse_Warning{Warning: w}})
	}); err != nil {
		return err
	}
	if t := in.GetTenant(); t != "" {
		maps.DeleteFunc(found, func(tenant string, _ storeapi.TSDBStats) bool { return tenant != "" && tenant != t })
	}
	for tenants := range slices.Chunk(slices.Sorted(maps.Keys(found)), tenantsInFrame) {
		m := &storepb.TSDBStatistics{Statistics: make(map[string]*storepb.TSDBStatisticsEntry, len(tenants))}
		for _, t := range tenants {
			m.Statistics[t] = tsdbStatsToWire(found[t])
		}
		if err := stream.Send(&storepb.TSDBStatisticsResponse{Result: &storepb.TSDBStatisticsResponse_Statistics{Statistics: m}}); err != nil {
			return fmt.Errorf("send TSDB statistics: %w", err)
		}
	}
	return nil
}

// TSDBStatus asks the remote server, which must offer the Status service. It
// implements storeapi.TSDBStatusStore.
func (c *Client) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	in := &storepb.TSDBStatisticsRequest{
		Limit: int32(max(0, min(r.Limit, math.MaxInt32))), Matchers: matchersToWire(r.Matchers), PartialResponseStrategy: strategyToWire(r.Partial),
	}
	out := map[string]storeapi.TSDBStats{}
	var ws texts
	l := listing[*storepb.TSDBStatisticsResponse]{
		doing: "fetch TSDB statistics from " + c.name, budget: r.Budget,
		use: func(m *storepb.TSDBStatisticsResponse) {
			if w := m.GetWarning(); w != "" {
				ws.add([]byte(w))
			}
			for t, e := range m.GetStatistics().GetStatistics() {
				t = textFromWire(t)
				stats := tsdbStatsFromWire(e)
				if before, ok := out[t]; ok {
					stats = storeapi.MergeTSDBStats([]storeapi.TSDBStats{before, stats}, r.Limit)
				}
				out[t] = stats
			}
		},
	}
	err := l.read(ctx, func(ctx context.Context) (grpc.ClientStream, error) {
		return c.status.TSDBStatistics(ctx, in, c.callOptions...)
	}, &storepb.TSDBStatisticsResponse{})
	if err != nil {
		return nil, nil, err
	}
	return out, c.warnings(ws), nil
}

func tsdbStatsToWire(s storeapi.TSDBStats) *storepb.TSDBStatisticsEntry {
	return &storepb.TSDBStatisticsEntry{
		HeadStatistics: &storepb.HeadStatistics{
			NumSeries: s.Series, NumLabelPairs: s.LabelPairs, ChunkCount: s.Chunks, MinTime: s.MinTime, MaxTime: s.MaxTime,
		},
		SeriesCountByMetricName: countsToWire(s.SeriesByMetric), LabelValueCountByLabelName: countsToWire(s.ValuesByLabel),
		MemoryInBytesByLabelName: countsToWire(s.MemoryByLabel), SeriesCountByLabelValuePair: countsToWire(s.SeriesByPair),
	}
}

func tsdbStatsFromWire(e *storepb.TSDBStatisticsEntry) storeapi.TSDBStats {
	h := e.GetHeadStatistics()
	return storeapi.TSDBStats{
		Series: h.GetNumSeries(), LabelPairs: h.GetNumLabelPairs(), Chunks: h.GetChunkCount(), MinTime: h.GetMinTime(), MaxTime: h.GetMaxTime(),
		SeriesByMetric: countsFromWire(e.GetSeriesCountByMetricName()), ValuesByLabel: countsFromWire(e.GetLabelValueCountByLabelName()),
		MemoryByLabel: countsFromWire(e.GetMemoryInBytesByLabelName()), SeriesByPair: countsFromWire(e.GetSeriesCountByLabelValuePair()),
	}
}

func countsToWire(in []storeapi.NamedCount) []*storepb.Statistic {
	out := make([]*storepb.Statistic, 0, len(in))
	for _, c := range in {
		out = append(out, &storepb.Statistic{Name: c.Name, Value: c.Value})
	}
	return out
}

func countsFromWire(in []*storepb.Statistic) []storeapi.NamedCount {
	out := make([]storeapi.NamedCount, 0, len(in))
	for _, c := range in {
		out = append(out, storeapi.NamedCount{Name: textFromWire(c.GetName()), Value: c.GetValue()})
	}
	return out
}
