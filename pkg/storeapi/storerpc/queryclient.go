package storerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
)

// ErrSettings is the refusal of a query whose result would depend on settings in which
// the server differs from its client.
var ErrSettings = errorid.Sentinel(errorid.QuerySettings, "querier has other settings")

// Query evaluates the query at the server, and passes each series of the result on as it
// comes, in the order of the server. A series may come in several parts, one after the
// other. The result of a scalar is a series without labels. The warnings are those of the
// server as it joined them. A request with Settings fails with ErrSettings when those of
// the server differ.
func (c *Client) Query(ctx context.Context, r *QueryRequest, each func(promql.Series) error) (QuerySummary, error) {
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	var out QuerySummary
	recv, err := c.openQuery(withExtras(ctx, r), r)
	if err != nil {
		return out, fmt.Errorf("query %s: %w", c.name, err)
	}
	var ws texts
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			out.Warnings = c.warnings(ws)
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("query %s: %w", c.name, err)
		}
		if w := m.GetWarnings(); w != "" {
			ws.add([]byte(w))
		}
		out.note(m.GetStats())
		all := m.GetTimeseriesBatch().GetSeries()
		if one := m.GetTimeseries(); one != nil {
			all = append(all, one)
		}
		for _, s := range all {
			series, err := querySeriesFromWire(s)
			if err == nil {
				err = each(series)
			}
			if err != nil {
				return out, fmt.Errorf("read the result of %s: %w", c.name, err)
			}
		}
	}
}

// queryAnswer has the common parts of both kinds of messages.
type queryAnswer interface {
	GetWarnings() string
	GetTimeseries() *prompb.TimeSeries
	GetTimeseriesBatch() *storepb.TimeSeriesBatch
	GetStats() *storepb.QueryStats
}

func (c *Client) openQuery(ctx context.Context, r *QueryRequest) (func() (queryAnswer, error), error) {
	if r.Step > 0 {
		stream, err := c.query.QueryRange(ctx, &storepb.QueryRangeRequest{
			Query: r.Query, StartTimeSeconds: r.Start.Unix(), EndTimeSeconds: r.End.Unix(), IntervalSeconds: seconds(r.Step),
			TimeoutSeconds: seconds(r.Timeout), MaxResolutionSeconds: seconds(r.MaxResolution), ReplicaLabels: r.ReplicaLabels,
			EnableDedup: r.Dedup, EnablePartialResponse: r.Partial == storeapi.PartialWarn,
			LookbackDeltaSeconds: seconds(r.Lookback), ResponseBatchSize: int64(c.batch),
		}, c.callOptions...)
		return receiver(stream, err)
	}
	stream, err := c.query.Query(ctx, &storepb.QueryRequest{
		Query: r.Query, TimeSeconds: r.Start.Unix(),
		TimeoutSeconds: seconds(r.Timeout), MaxResolutionSeconds: seconds(r.MaxResolution), ReplicaLabels: r.ReplicaLabels,
		EnableDedup: r.Dedup, EnablePartialResponse: r.Partial == storeapi.PartialWarn,
		LookbackDeltaSeconds: seconds(r.Lookback), ResponseBatchSize: int64(c.batch),
	}, c.callOptions...)
	return receiver(stream, err)
}

// maxQueryMemory bounds one message of a result in memory, where an element, of which
// each sample is one, counts for elementMemory bytes.
const maxQueryMemory = 512 << 20

// receiver returns a function that receives the next message of a stream. The series of a
// message are valid for ever, the message until the next call.
func receiver[M any, P interface {
	*M
	queryAnswer
	listed
}](stream grpc.ServerStreamingClient[M], err error) (func() (queryAnswer, error), error) {
	if err != nil {
		return nil, fromStatus(err)
	}
	return func() (queryAnswer, error) {
		m := P(new(M))
		read := &measured{message: m, left: maxQueryMemory, each: elementMemory}
		if err := stream.RecvMsg(read); errors.Is(err, io.EOF) {
			return m, io.EOF
		} else if err != nil {
			return m, read.failure(err)
		}
		return m, nil
	}, nil
}

// seconds rounds up, so that a short time does not become none.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func querySeriesFromWire(in *prompb.TimeSeries) (promql.Series, error) {
	metric, whole := usableLabels(&labelpb.ZLabelSet{Labels: in.GetLabels()})
	out := promql.Series{Metric: metric}
	if !whole {
		return out, fmt.Errorf("series %s has another label without a name, that is not UTF-8, or that is too long", clip(metric.String()))
	}
	for _, s := range in.GetSamples() {
		out.Floats = append(out.Floats, promql.FPoint{T: s.GetTimestamp(), F: s.GetValue()})
	}
	for _, h := range in.GetHistograms() {
		fh := histogramFromWire(h)
		if !holds(fh.PositiveSpans, len(fh.PositiveBuckets)) || !holds(fh.NegativeSpans, len(fh.NegativeBuckets)) || !histogram.IsKnownSchema(fh.Schema) || math.IsNaN(fh.ZeroThreshold) {
			return out, fmt.Errorf("histogram of series %s at %d: its buckets are not those of its spans, schema %d is not known, or the zero threshold %v is not a number",
				out.Metric, h.GetTimestamp(), fh.Schema, fh.ZeroThreshold)
		}
		out.Histograms = append(out.Histograms, promql.HPoint{T: h.GetTimestamp(), H: fh})
	}
	return out, nil
}

// histogramFromWire is the inverse of histogramToWire.
func histogramFromWire(h *prompb.Histogram) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Count: h.GetCountFloat(), Sum: h.GetSum(), Schema: h.GetSchema(),
		ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCountFloat(),
		NegativeSpans: spansFromWire(h.GetNegativeSpans()), NegativeBuckets: h.GetNegativeCounts(),
		PositiveSpans: spansFromWire(h.GetPositiveSpans()), PositiveBuckets: h.GetPositiveCounts(),
		CounterResetHint: histogram.CounterResetHint(h.GetResetHint()), CustomValues: h.GetCustomValues(),
	}
}

// holds reports whether spans describe n buckets. Results may have negative buckets, so
// that the histogram's own check would refuse them.
func holds(spans []histogram.Span, n int) bool {
	for i, s := range spans {
		if i > 0 && s.Offset < 0 || int64(s.Length) > int64(n) {
			return false
		}
		n -= int(s.Length)
	}
	return n == 0
}

func spansFromWire(in []*prompb.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, 0, len(in))
	for _, s := range in {
		out = append(out, histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()})
	}
	return slices.Clip(out)
}
