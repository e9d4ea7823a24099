package storerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// Bounds of requests and answers: far above those of a useful request, and far
// below the memory of a process.
const (
	maxExemplarQuery     = 1 << 20 // bytes
	maxExemplarSelectors = 1000
	maxExemplarFrame     = 8 << 20  // bytes
	maxExemplarAnswer    = 64 << 20 // bytes, on the wire or in memory
	// exemplarMemory is what an element of an exemplar counts for beside its bytes on the
	// wire. An exemplar with one label has five.
	exemplarMemory = 32
	// exemplarsInFrame is how many exemplars are sent at once; a series that has
	// more comes in several frames.
	exemplarsInFrame = 1000
)

// RegisterExemplars serves s as thanos.Exemplars.
func RegisterExemplars(r grpc.ServiceRegistrar, s storeapi.ExemplarStore) {
	storepb.RegisterExemplarsServer(r, &exemplarsServer{
		store: s,
		// Only selectors count, so whatever function is around them is welcome.
		promql: parser.NewParser(parser.Options{
			EnableExperimentalFunctions: true, EnableBinopFillModifiers: true,
		}),
	})
}

type exemplarsServer struct {
	store  storeapi.ExemplarStore
	promql parser.Parser
}

// Exemplars implements the service: it streams all warnings, then the exemplars of
// each series, at most exemplarsInFrame to a message. With the strategy ABORT a
// warning fails the request.
func (s *exemplarsServer) Exemplars(in *storepb.ExemplarsRequest, stream grpc.ServerStreamingServer[storepb.ExemplarsResponse]) error {
	selectors, err := s.selectors(in.GetQuery())
	if err != nil {
		return toStatus(err)
	}
	r := &storeapi.ExemplarRequest{
		Selectors: selectors, MinTime: in.GetStart(), MaxTime: in.GetEnd(),
		Partial: strategyFromWire(false, in.GetPartialResponseStrategy()),
	}
	found, ws, err := s.store.Exemplars(incoming(stream.Context()), r)
	if err != nil {
		return toStatus(err)
	}
	if len(ws) > 0 && r.Partial == storeapi.PartialAbort {
		return toStatus(fmt.Errorf("exemplars: %w: %s", storeapi.ErrPartial, ws[0].Text))
	}
	for _, w := range ws.Strings() {
		if err := stream.Send(&storepb.ExemplarsResponse{Result: &storepb.ExemplarsResponse_Warning{Warning: w}}); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	for _, series := range found {
		lset := labelsToWire(series.Labels)
		for part := range slices.Chunk(series.Exemplars, exemplarsInFrame) {
			data := &storepb.ExemplarData{SeriesLabels: lset, Exemplars: exemplarsToWire(part)}
			if err := stream.Send(&storepb.ExemplarsResponse{Result: &storepb.ExemplarsResponse_Data{Data: data}}); err != nil {
				return fmt.Errorf("send exemplars: %w", err)
			}
		}
	}
	return nil
}

func (s *exemplarsServer) selectors(query string) ([][]*labels.Matcher, error) {
	if len(query) > maxExemplarQuery {
		return nil, fmt.Errorf("%w: the query has %d bytes; the limit is %d", storeapi.ErrInvalid, len(query), maxExemplarQuery)
	}
	if err := checkQueryRegexps(query); err != nil {
		return nil, err
	}
	expr, err := s.promql.ParseExpr(query)
	if err != nil {
		return nil, fmt.Errorf("%w: parse the query: %w", storeapi.ErrInvalid, err)
	}
	out := parser.ExtractSelectors(expr)
	if len(out) > maxExemplarSelectors {
		return nil, fmt.Errorf("%w: the query has %d selectors; the limit is %d", storeapi.ErrInvalid, len(out), maxExemplarSelectors)
	}
	return out, nil
}

// Exemplars asks the remote server, which must offer the Exemplars service.
func (c *Client) Exemplars(ctx context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	if len(r.Selectors) == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	opts := append(c.callOptions[:len(c.callOptions):len(c.callOptions)], grpc.MaxCallRecvMsgSize(maxExemplarFrame))
	stream, err := c.exemplars.Exemplars(ctx, &storepb.ExemplarsRequest{
		Query: exemplarQuery(r.Selectors), Start: r.MinTime, End: r.MaxTime,
		PartialResponseStrategy: strategyToWire(r.Partial),
	}, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch exemplars from %s: %w", c.name, fromStatus(err))
	}
	var ws texts
	var out []storeapi.ExemplarSeries
	m := &storepb.ExemplarsResponse{}
	for read := (&measured{message: m, left: maxExemplarAnswer, each: exemplarMemory}); ; {
		err := stream.RecvMsg(read)
		if errors.Is(err, io.EOF) {
			return storeapi.MergeExemplars(out, nil), c.warnings(ws), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("fetch exemplars from %s: %w", c.name, read.failure(err))
		}
		if w := m.GetWarning(); w != "" {
			ws.add([]byte(w))
		}
		if found := exemplarsFromWire(m.GetData().GetExemplars(), r); len(found) > 0 {
			out = append(out, storeapi.ExemplarSeries{Labels: labelsFromWire(m.GetData().GetSeriesLabels()), Exemplars: found})
		}
	}
}

// exemplarQuery prints the selectors as the sum that the protocol wants. A
// selector that no matcher narrows is not PromQL; it gets the condition that a
// name exists, which every stored series fulfils.
func exemplarQuery(selectors [][]*labels.Matcher) string {
	var b strings.Builder
	for i, ms := range selectors {
		if i > 0 {
			b.WriteString(" + ")
		}
		narrow := false
		b.WriteByte('{')
		for j, m := range ms {
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString(m.String())
			narrow = narrow || !m.Matches("")
		}
		if !narrow {
			if len(ms) > 0 {
				b.WriteString(", ")
			}
			b.WriteString(model.MetricNameLabel + `=~".+"`)
		}
		b.WriteByte('}')
	}
	return b.String()
}

func exemplarsToWire(in []exemplar.Exemplar) []*storepb.Exemplar {
	out := make([]*storepb.Exemplar, 0, len(in))
	for _, e := range in {
		out = append(out, &storepb.Exemplar{Labels: labelsToWire(e.Labels), Value: e.Value, Ts: e.Ts})
	}
	return out
}

// exemplarsFromWire converts the exemplars in the time range of the request, which are all
// that a proper server sends. The earliest times of an int64 cannot be printed as JSON.
func exemplarsFromWire(in []*storepb.Exemplar, r *storeapi.ExemplarRequest) []exemplar.Exemplar {
	out := make([]exemplar.Exemplar, 0, len(in))
	for _, e := range in {
		if e.GetTs() < r.MinTime || e.GetTs() > r.MaxTime {
			continue
		}
		out = append(out, exemplar.Exemplar{Labels: labelsFromWire(e.GetLabels()), Value: e.GetValue(), Ts: e.GetTs(), HasTs: true})
	}
	return out
}
