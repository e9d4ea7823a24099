package storerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// RegisterMetadata serves s as thanos.Metadata.
func RegisterMetadata(r grpc.ServiceRegistrar, s storeapi.MetadataStore) {
	storepb.RegisterMetadataServer(r, &metadataServer{store: s})
}

type metadataServer struct{ store storeapi.MetadataStore }

func (s *metadataServer) MetricMetadata(in *storepb.MetricMetadataRequest, stream grpc.ServerStreamingServer[storepb.MetricMetadataResponse]) error {
	if in.GetLimit() == 0 {
		return nil
	}
	found, ws, err := s.store.Metadata(incoming(stream.Context()), in.GetMetric(), int(in.GetLimit()))
	if err != nil {
		return toStatus(err)
	}
	if len(ws) > 0 && in.GetPartialResponseStrategy() == storepb.PartialResponseStrategy_ABORT {
		return toStatus(fmt.Errorf("metric metadata: %w: %s", storeapi.ErrPartial, ws[0].Text))
	}
	for _, w := range ws.Strings() {
		if err := stream.Send(&storepb.MetricMetadataResponse{Result: &storepb.MetricMetadataResponse_Warning{Warning: w}}); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	m := &storepb.MetricMetadata{Metadata: make(map[string]*storepb.MetricMetadataEntry, len(found))}
	for name, metas := range found {
		e := &storepb.MetricMetadataEntry{}
		for _, x := range metas {
			e.Metas = append(e.Metas, &storepb.Meta{Type: x.Type, Help: x.Help, Unit: x.Unit})
		}
		m.Metadata[name] = e
	}
	if err := stream.Send(&storepb.MetricMetadataResponse{Result: &storepb.MetricMetadataResponse_Metadata{Metadata: m}}); err != nil {
		return fmt.Errorf("send metric metadata: %w", err)
	}
	return nil
}

// Metadata asks the remote server, which must offer the Metadata service.
func (c *Client) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if limit == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	stream, err := c.metadata.MetricMetadata(ctx, &storepb.MetricMetadataRequest{
		Metric: metric, Limit: int32(max(-1, min(limit, math.MaxInt32))),
	}, c.callOptions...)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch metric metadata from %s: %w", c.name, fromStatus(err))
	}
	var ws storeapi.Warnings
	out := map[string][]storeapi.Metadata{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, ws, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("fetch metric metadata from %s: %w", c.name, fromStatus(err))
		}
		if w := m.GetWarning(); w != "" {
			ws = append(ws, storeapi.Warning{Source: c.name, Text: w})
		}
		for name, e := range m.GetMetadata().GetMetadata() {
			for _, x := range e.GetMetas() {
				meta := storeapi.Metadata{Type: x.GetType(), Help: x.GetHelp(), Unit: x.GetUnit()}
				if !slices.Contains(out[name], meta) {
					out[name] = append(out[name], meta)
				}
			}
		}
	}
}
