package storerpc

import (
	"context"
	"fmt"
	"math"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
)

// ioBuffer is the size of the write and read buffers of a connection: a few
// frames.
const ioBuffer = 128 << 10

// maxBatch bounds the number of series in a frame, whatever the client asks for.
const maxBatch = 4096

// ServerConfig is the configuration of the service of a store.
type ServerConfig struct {
	// RejectUnknownHints answers request hints of an unknown type with
	// InvalidArgument, as the gateway of a bucket does; otherwise they are
	// ignored.
	RejectUnknownHints bool
	// AnswerLabelHints adds the names of the queried blocks to the answers of
	// label calls.
	AnswerLabelHints bool
}

// ServerOptions are the options of a gRPC server that fit the protocol: messages
// of any size, and the codec that spares reflection. Servers work without them.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.ForceServerCodecV2(Codec()),
		grpc.WriteBufferSize(ioBuffer),
		// Nodes send each other messages of megabytes. Fixed windows also avoid
		// the pings by which gRPC measures the connection.
		grpc.InitialWindowSize(4 << 20),
		grpc.InitialConnWindowSize(8 << 20),
		experimental.BufferPool(&bufferPool{}),
	}
}

// RegisterStore serves s as thanos.Store.
func RegisterStore(r grpc.ServiceRegistrar, s storeapi.Store, cfg ServerConfig) {
	storepb.RegisterStoreServer(r, &server{store: s, cfg: cfg, pool: &framePool{}})
}

type server struct {
	store storeapi.Store
	cfg   ServerConfig
	pool  *framePool
}

// Series streams the set frame by frame. Sending blocks while the client does
// not read, so nothing piles up here.
func (s *server) Series(in *storepb.SeriesRequest, stream grpc.ServerStreamingServer[storepb.SeriesResponse]) (err error) {
	r, err := seriesRequestFromWire(in, s.cfg.RejectUnknownHints)
	if err != nil {
		return toStatus(err)
	}
	ctx, report := storeapi.NewReportContext(incoming(stream.Context()))
	set := s.store.Select(ctx, r)
	defer func() {
		stream.SetTrailer(skippedTrailer(report))
		if cerr := set.Close(); err == nil && cerr != nil {
			err = toStatus(fmt.Errorf("close series: %w", cerr))
		}
	}()
	batch := int(max(1, min(in.GetResponseBatchSize(), maxBatch)))
	enc := &frameEncoder{pool: s.pool, batched: batch > 1, packs: batch > 1 && acceptsPacked(stream.Context())}
	if rs, ok := set.(storeapi.RecyclingSet); ok {
		rs.Recycle() // frames have copies
	}
	more, err := firstSeries(stream, set)
	if err != nil {
		return err
	}
	for ; more; more = set.Next() {
		if err := sendSeries(stream, enc, set.At(), batch); err != nil {
			return err
		}
	}
	if err := flush(stream, enc); err != nil {
		return err
	}
	if err := set.Err(); err != nil {
		return toStatus(err)
	}
	return s.sendTail(stream, r, set)
}

// sendSeries puts one series into the current frame, or into several when it is
// very large, and sends full ones.
func sendSeries(stream grpc.ServerStream, enc *frameEncoder, series storeapi.Series, batch int) error {
	for {
		n := enc.split(series.Chunks)
		part := storeapi.Series{Labels: series.Labels, Chunks: series.Chunks[:n]}
		if !enc.fits(part) {
			if err := flush(stream, enc); err != nil {
				return err
			}
		}
		enc.add(part)
		if enc.series >= batch || enc.len() >= maxFrameBytes {
			if err := flush(stream, enc); err != nil {
				return err
			}
		}
		series.Chunks = series.Chunks[n:]
		if len(series.Chunks) == 0 {
			return nil
		}
	}
}

func flush(stream grpc.ServerStream, enc *frameEncoder) error {
	if enc.series == 0 {
		return nil
	}
	if err := stream.SendMsg(enc.take()); err != nil {
		return fmt.Errorf("send series: %w", err)
	}
	return nil
}

// sendTail sends the last messages of an answer: warnings, and statistics if they
// were asked for.
func (s *server) sendTail(stream grpc.ServerStream, r *storeapi.Request, set storeapi.SeriesSet) error {
	for _, w := range set.Warnings().Strings() {
		m := &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Warning{Warning: w}}
		if err := stream.SendMsg(m); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	if !r.WantStats {
		return nil
	}
	hints, err := toAny(statsToWire(set.Stats()))
	if err != nil {
		return toStatus(err)
	}
	if err := stream.SendMsg(&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Hints{Hints: hints}}); err != nil {
		return fmt.Errorf("send statistics: %w", err)
	}
	return nil
}

// LabelNames implements the service.
func (s *server) LabelNames(ctx context.Context, in *storepb.LabelNamesRequest) (*storepb.LabelNamesResponse, error) {
	if err := checkNames(in.GetWithoutReplicaLabels()); err != nil {
		return nil, toStatus(err)
	}
	ms, err := matchersFromWire(in.GetMatchers())
	if err != nil {
		return nil, toStatus(err)
	}
	r := &storeapi.Request{
		MinTime:              in.GetStart(),
		MaxTime:              in.GetEnd(),
		Matchers:             ms,
		WithoutReplicaLabels: in.GetWithoutReplicaLabels(),
		Limit:                limitFromWire(in.GetLimit()),
		Partial:              strategyFromWire(in.GetPartialResponseDisabled(), in.GetPartialResponseStrategy()),
	}
	if err := readRequestHints(in.GetHints(), s.cfg.RejectUnknownHints, r); err != nil {
		return nil, toStatus(err)
	}
	names, ws, err := s.store.LabelNames(incoming(ctx), r)
	if err != nil {
		return nil, toStatus(err)
	}
	out := &storepb.LabelNamesResponse{Names: names, Warnings: ws.Strings()}
	if s.cfg.AnswerLabelHints {
		out.Hints, err = toAny(&hintspb.LabelNamesResponseHints{})
	}
	return out, toStatus(err)
}

// LabelValues implements the service. A label that the request removes as a replica
// label has no values.
func (s *server) LabelValues(ctx context.Context, in *storepb.LabelValuesRequest) (*storepb.LabelValuesResponse, error) {
	if in.GetLabel() == "" {
		return nil, toStatus(fmt.Errorf("label values: %w: empty label name", storeapi.ErrInvalid))
	}
	if n := len(in.GetLabel()); n > maxLabelName {
		return nil, toStatus(fmt.Errorf("label values: %w: label name of %d bytes", storeapi.ErrInvalid, n))
	}
	if err := checkNames(in.GetWithoutReplicaLabels()); err != nil {
		return nil, toStatus(err)
	}
	ms, err := matchersFromWire(in.GetMatchers())
	if err != nil {
		return nil, toStatus(err)
	}
	r := &storeapi.Request{
		MinTime:              in.GetStart(),
		MaxTime:              in.GetEnd(),
		Matchers:             ms,
		WithoutReplicaLabels: in.GetWithoutReplicaLabels(),
		Limit:                limitFromWire(in.GetLimit()),
		Partial:              strategyFromWire(in.GetPartialResponseDisabled(), in.GetPartialResponseStrategy()),
	}
	if err := readRequestHints(in.GetHints(), s.cfg.RejectUnknownHints, r); err != nil {
		return nil, toStatus(err)
	}
	out := &storepb.LabelValuesResponse{}
	if slices.Contains(r.WithoutReplicaLabels, in.GetLabel()) {
		return out, nil
	}
	values, ws, err := s.store.LabelValues(incoming(ctx), in.GetLabel(), r)
	if err != nil {
		return nil, toStatus(err)
	}
	out.Values, out.Warnings = values, ws.Strings()
	if s.cfg.AnswerLabelHints {
		var hints *anypb.Any
		if hints, err = toAny(&hintspb.LabelValuesResponseHints{}); err != nil {
			return nil, toStatus(err)
		}
		out.Hints = hints
	}
	return out, nil
}
