package sidecar

import (
	"context"
	"strconv"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Metadata returns the metadata of metrics that the targets of the server expose. A
// negative limit is no limit on the number of metrics.
func (s *promStore) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if limit == 0 {
		return nil, nil, nil
	}
	askFor := limit
	if metric != "" {
		askFor = -1 // it is one metric
	}
	about := question{api: apiMetadata, subject: metric, span: strconv.Itoa(max(askFor, -1))}
	found, err := ask(ctx, s.answers, about, func(ctx context.Context) (prom.Answer[map[string][]prom.Metadata], error) {
		return s.source.client.Metadata(ctx, metric, askFor)
	})
	if err != nil {
		return nil, nil, failed(s.source, err)
	}
	out := make(map[string][]storeapi.Metadata, len(found.Data))
	for name, entries := range found.Data {
		// The last known answer may be of all metrics, or to another limit.
		if metric != "" && name != metric {
			continue
		}
		if limit > 0 && len(out) == limit {
			break
		}
		for _, m := range entries {
			out[name] = append(out[name], storeapi.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit})
		}
	}
	return out, marked(s, found), nil
}
