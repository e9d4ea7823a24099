package storerpc

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
)

// QueryEngine evaluates PromQL for RegisterQuery. Its errors are of the kinds of
// storeapi where a kind fits; all others become the status Aborted. The context
// carries the tenant and the metadata of the call.
type QueryEngine interface {
	Query(ctx context.Context, r *QueryRequest) (*QueryAnswer, error)
}

// QueryRequest is an instant query at Start or, with a Step, a range query from
// Start to End inclusive.
type QueryRequest struct {
	Query string
	// Start is the zero time for an instant query at the present time.
	Start, End time.Time
	// Step is in whole seconds; 0 for an instant query.
	Step time.Duration
	// Timeout and Lookback are 0 for those of the server.
	Timeout, Lookback time.Duration
	// MaxResolution is the coarsest resolution of downsampled data that may be
	// used; 0 is the server's default.
	MaxResolution time.Duration
	Dedup         bool
	// ReplicaLabels replace those of the server; none keeps them.
	ReplicaLabels []string
	StoreMatchers [][]*labels.Matcher
	Partial       storeapi.PartialResponse
	Shard         *storeapi.Shard
	// Settings, if not empty, are those of the client that decide results beside the
	// other fields. The engine refuses others than its own with ErrSettings, and a
	// client that sends them gets each warning in a message of its own.
	Settings string
	// Limits and times in milliseconds reach the server with Settings only; without
	// them times are sent in seconds, durations rounded up.
	Limits QueryLimits
}

// QueryAnswer is the result of a query. Its memory is the engine's until Close.
type QueryAnswer struct {
	Value    parser.Value
	Warnings []string
	// Samples is the number of samples that were read, PeakSamples the largest
	// number in memory at once.
	Samples, PeakSamples int64
	Read                 QueryRead
	Close                func()
}

// RegisterQuery serves e as thanos.Query.
func RegisterQuery(r grpc.ServiceRegistrar, e QueryEngine) {
	storepb.RegisterQueryServer(r, &queryServer{engine: e})
}

type queryServer struct{ engine QueryEngine }

// queryMessage has the common fields of both kinds of requests.
type queryMessage interface {
	GetQuery() string
	GetTimeoutSeconds() int64
	GetMaxResolutionSeconds() int64
	GetReplicaLabels() []string
	GetStoreMatchers() []*storepb.StoreMatchers
	GetEnableDedup() bool
	GetEnablePartialResponse() bool
	GetShardInfo() *storepb.ShardInfo
	GetLookbackDeltaSeconds() int64
	GetEngine() storepb.EngineType
	GetQueryPlan() *storepb.QueryPlan
}

// Query implements the service for an instant query; a time of 0 is the present.
// Series are sent in batches if the request asks for more than one to a message,
// else alone.
func (s *queryServer) Query(in *storepb.QueryRequest, stream grpc.ServerStreamingServer[storepb.QueryResponse]) error {
	r, err := queryFromWire(in)
	if err != nil {
		return toStatus(err)
	}
	if t := in.GetTimeSeconds(); t != 0 {
		if r.Start, err = secondsToTime("time_seconds", t); err != nil {
			return toStatus(err)
		}
	}
	out := resultSender{batch: in.GetResponseBatchSize(), send: func(w string, series []*prompb.TimeSeries, stats *storepb.QueryStats) error {
		m := &storepb.QueryResponse{}
		switch {
		case stats != nil:
			m.Result = &storepb.QueryResponse_Stats{Stats: stats}
		case w != "":
			m.Result = &storepb.QueryResponse_Warnings{Warnings: w}
		case in.GetResponseBatchSize() > 1:
			m.Result = &storepb.QueryResponse_TimeseriesBatch{TimeseriesBatch: &storepb.TimeSeriesBatch{Series: series}}
		default:
			m.Result = &storepb.QueryResponse_Timeseries{Timeseries: series[0]}
		}
		return stream.Send(m)
	}}
	return s.run(stream.Context(), r, &out)
}

func (s *queryServer) QueryRange(in *storepb.QueryRangeRequest, stream grpc.ServerStreamingServer[storepb.QueryRangeResponse]) error {
	r, err := queryFromWire(in)
	if err != nil {
		return toStatus(err)
	}
	if err := rangeFromWire(in, r); err != nil {
		return toStatus(err)
	}
	out := resultSender{batch: in.GetResponseBatchSize(), send: func(w string, series []*prompb.TimeSeries, stats *storepb.QueryStats) error {
		m := &storepb.QueryRangeResponse{}
		switch {
		case stats != nil:
			m.Result = &storepb.QueryRangeResponse_Stats{Stats: stats}
		case w != "":
			m.Result = &storepb.QueryRangeResponse_Warnings{Warnings: w}
		case in.GetResponseBatchSize() > 1:
			m.Result = &storepb.QueryRangeResponse_TimeseriesBatch{TimeseriesBatch: &storepb.TimeSeriesBatch{Series: series}}
		default:
			m.Result = &storepb.QueryRangeResponse_Timeseries{Timeseries: series[0]}
		}
		return stream.Send(m)
	}}
	return s.run(stream.Context(), r, &out)
}

// queryID returns the id of a query that failed.
func queryID(err error) errorid.ID {
	if id := errorid.Of(err); id != "" {
		return id
	}
	return errorid.QueryFailed
}

// run evaluates and sends: warnings, series, statistics.
func (s *queryServer) run(ctx context.Context, r *QueryRequest, out *resultSender) error {
	if err := readExtras(ctx, r); err != nil {
		return toStatus(err)
	}
	answer, err := s.engine.Query(incoming(ctx), r)
	if err != nil {
		st := toStatus(err)
		if status.Code(st) == codes.Internal {
			return status.Error(codes.Aborted, errorid.Text(err.Error(), queryID(err)))
		}
		return st
	}
	defer answer.Close()
	warnings := answer.Warnings
	if r.Settings == "" && len(warnings) > 0 {
		warnings = []string{strings.Join(warnings, ", ")}
	}
	for _, w := range warnings {
		if err := out.send(w, nil, nil); err != nil {
			return fmt.Errorf("send warnings: %w", err)
		}
	}
	out.split = r.Settings != ""
	if err := out.value(answer.Value); err != nil {
		return fmt.Errorf("send series: %w", err)
	}
	if err := out.send("", nil, queryStats(answer)); err != nil {
		return fmt.Errorf("send statistics: %w", err)
	}
	return nil
}

// maxRangePoints is how many steps a range query may have, as over HTTP.
const maxRangePoints = 11_000

func rangeFromWire(in *storepb.QueryRangeRequest, r *QueryRequest) (err error) {
	if r.Start, err = secondsToTime("start_time_seconds", in.GetStartTimeSeconds()); err != nil {
		return err
	}
	if r.End, err = secondsToTime("end_time_seconds", in.GetEndTimeSeconds()); err != nil {
		return err
	}
	if r.Step, err = secondsToDuration("interval_seconds", in.GetIntervalSeconds()); err != nil {
		return err
	}
	switch {
	case r.Step == 0:
		return fmt.Errorf("%w: interval_seconds is the step of the query and must be positive", storeapi.ErrInvalid)
	case r.End.Before(r.Start):
		return fmt.Errorf("%w: end_time_seconds %d is before start_time_seconds %d", storeapi.ErrInvalid, in.GetEndTimeSeconds(), in.GetStartTimeSeconds())
	case (in.GetEndTimeSeconds()-in.GetStartTimeSeconds())/in.GetIntervalSeconds() > maxRangePoints:
		return fmt.Errorf("%w: the query has more than %d steps; use a larger interval_seconds", storeapi.ErrInvalid, maxRangePoints)
	}
	return nil
}

// queryFromWire checks and converts the fields that both kinds of query have; the
// caller adds the times. The errors wrap storeapi.ErrInvalid.
func queryFromWire(in queryMessage) (*QueryRequest, error) {
	if in.GetQuery() == "" {
		if in.GetQueryPlan() != nil {
			return nil, fmt.Errorf("%w: the request has a query plan only; plans are not executed, send the PromQL text in the field query", storeapi.ErrInvalid)
		}
		return nil, fmt.Errorf("%w: the field query is empty", storeapi.ErrInvalid)
	}
	if e := in.GetEngine(); e < storepb.EngineType_default || e > storepb.EngineType_thanos {
		return nil, fmt.Errorf("%w: there is no engine %d", storeapi.ErrInvalid, e)
	}
	r := &QueryRequest{
		Query: in.GetQuery(), Dedup: in.GetEnableDedup(), ReplicaLabels: in.GetReplicaLabels(),
		Partial: strategyFromWire(!in.GetEnablePartialResponse(), storepb.PartialResponseStrategy_WARN),
		Shard:   shardFromWire(in.GetShardInfo()),
	}
	for _, set := range in.GetStoreMatchers() {
		ms, err := matchersFromWire(set.GetLabelMatchers())
		if err != nil {
			return nil, err
		}
		r.StoreMatchers = append(r.StoreMatchers, ms)
	}
	var err error
	if r.Timeout, err = secondsToDuration("timeout_seconds", in.GetTimeoutSeconds()); err != nil {
		return nil, err
	}
	if r.Lookback, err = secondsToDuration("lookback_delta_seconds", in.GetLookbackDeltaSeconds()); err != nil {
		return nil, err
	}
	r.MaxResolution, err = secondsToDuration("max_resolution_seconds", in.GetMaxResolutionSeconds())
	return r, err
}

func secondsToDuration(field string, n int64) (time.Duration, error) {
	if n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, fmt.Errorf("%w: %s %d is out of range", storeapi.ErrInvalid, field, n)
	}
	return time.Duration(n) * time.Second, nil
}

func secondsToTime(field string, n int64) (time.Time, error) {
	const most = math.MaxInt64 / 1000 / 2 // milliseconds, and differences of two
	if n < -most || n > most {
		return time.Time{}, fmt.Errorf("%w: %s %d is out of range", storeapi.ErrInvalid, field, n)
	}
	return time.Unix(n, 0), nil
}

// histogramsInFrame is how many histograms of a series are sent at once, where the
// client joins the parts of a series. One may have some kilobytes.
const histogramsInFrame = 256

// resultSender turns a result into messages. send gets one of its three.
type resultSender struct {
	batch int64
	// split sends a series of many histograms in parts, for clients that join them.
	split bool
	send  func(warnings string, series []*prompb.TimeSeries, stats *storepb.QueryStats) error

	held  []*prompb.TimeSeries
	bytes int
}

// value sends the series of a result, in its order.
func (s *resultSender) value(v parser.Value) error {
	switch v := v.(type) {
	case promql.Matrix:
		for _, series := range v {
			for s.split && len(series.Histograms) > histogramsInFrame {
				part := promql.Series{Metric: series.Metric, Floats: series.Floats, Histograms: series.Histograms[:histogramsInFrame]}
				series.Floats, series.Histograms = nil, series.Histograms[histogramsInFrame:]
				if err := s.add(matrixSeries(part)); err != nil {
					return err
				}
			}
			if err := s.add(matrixSeries(series)); err != nil {
				return err
			}
		}
	case promql.Vector:
		for _, sample := range v {
			if err := s.add(vectorSeries(sample)); err != nil {
				return err
			}
		}
	case promql.Scalar:
		err := s.add(&prompb.TimeSeries{Samples: []*prompb.Sample{sampleToWire(v.T, v.V)}})
		if err != nil {
			return err
		}
	}
	return s.flush()
}

// add sends the series when the batch is full, in number or in size.
func (s *resultSender) add(series *prompb.TimeSeries) error {
	s.held = append(s.held, series)
	s.bytes += series.SizeVT()
	if int64(len(s.held)) >= min(s.batch, maxBatch) || s.bytes >= maxFrameBytes {
		return s.flush()
	}
	return nil
}

func (s *resultSender) flush() error {
	if len(s.held) == 0 {
		return nil
	}
	held := s.held
	s.held, s.bytes = nil, 0
	return s.send("", held, nil)
}

func matrixSeries(in promql.Series) *prompb.TimeSeries {
	out := &prompb.TimeSeries{Labels: labelsToWire(in.Metric).GetLabels()}
	for _, p := range in.Floats {
		out.Samples = append(out.Samples, sampleToWire(p.T, p.F))
	}
	for _, p := range in.Histograms {
		out.Histograms = append(out.Histograms, histogramToWire(p.T, p.H))
	}
	return out
}

func vectorSeries(in promql.Sample) *prompb.TimeSeries {
	out := &prompb.TimeSeries{Labels: labelsToWire(in.Metric).GetLabels()}
	if in.H != nil {
		out.Histograms = []*prompb.Histogram{histogramToWire(in.T, in.H)}
	} else {
		out.Samples = []*prompb.Sample{sampleToWire(in.T, in.F)}
	}
	return out
}
