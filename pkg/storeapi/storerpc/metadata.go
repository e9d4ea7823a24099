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

// Bounds of an answer.
const (
	maxMetadataFrame  = 64 << 20 // bytes
	maxMetadataAnswer = 128 << 20
	// maxMetas is how many different entries of one metric are kept: each is
	// compared with all others.
	maxMetas = 100
	// metaMemory is what an element of an entry counts for beside its bytes on the wire.
	// An entry with its name and one meta has seven.
	metaMemory = 48
)

// RegisterMetadata serves s as thanos.Metadata.
func RegisterMetadata(r grpc.ServiceRegistrar, s storeapi.MetadataStore) {
	storepb.RegisterMetadataServer(r, &metadataServer{store: s})
}

type metadataServer struct{ store storeapi.MetadataStore }

// MetricMetadata implements the service: it streams all warnings, then the metadata
// in one message. A limit of 0 gives an empty stream, a negative one is no limit.
// With the strategy ABORT a warning fails the request.
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
func (c *Client) Metadata(ctx context.Context, metric string, most int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if most == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	stream, err := c.metadata.MetricMetadata(ctx, &storepb.MetricMetadataRequest{
		Metric: metric, Limit: int32(max(-1, min(most, math.MaxInt32))),
	}, append(c.callOptions[:len(c.callOptions):len(c.callOptions)], grpc.MaxCallRecvMsgSize(maxMetadataFrame))...)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch metric metadata from %s: %w", c.name, fromStatus(err))
	}
	var ws texts
	out := map[string][]storeapi.Metadata{}
	m := &storepb.MetricMetadataResponse{}
	for read := (&measured{message: m, left: maxMetadataAnswer, each: metaMemory}); ; {
		err := stream.RecvMsg(read)
		if errors.Is(err, io.EOF) {
			return out, c.warnings(ws), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("fetch metric metadata from %s: %w", c.name, read.failure(err))
		}
		if w := m.GetWarning(); w != "" {
			ws.add([]byte(w))
		}
		for name, e := range m.GetMetadata().GetMetadata() {
			for _, x := range e.GetMetas() {
				if len(out[name]) >= maxMetas {
					break
				}
				meta := storeapi.Metadata{Type: x.GetType(), Help: x.GetHelp(), Unit: x.GetUnit()}
				if !slices.Contains(out[name], meta) {
					out[name] = append(out[name], meta)
				}
			}
		}
	}
}
