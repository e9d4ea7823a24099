package storerpc

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// Metadata of queries between servers of this program, which others ignore. A client
// sends settingsKey with the other two, so a server that does not know these refuses the
// settings.
const (
	// settingsKey has QueryRequest.Settings.
	settingsKey = "hindsight-query-settings"
	// timesKey has start, end, step, lookback and resolution in milliseconds: the fields
	// of the protocol are in seconds.
	timesKey = "hindsight-query-times"
	// limitsKey has QueryRequest.Limits.
	limitsKey = "hindsight-query-limits"
)

// maxSettings bounds the value of settingsKey, in bytes.
const maxSettings = 1024

// QueryLimits bound what a query reads at the server, beside the limits of the server
// itself; 0 means no limit.
type QueryLimits struct{ Samples, Series, Chunks, Bytes int64 }

// QueryRead is what was read from stores for a query.
type QueryRead struct{ Samples, Series, Chunks, Bytes int64 }

// QuerySummary is the part of an answer that is no series.
type QuerySummary struct {
	Warnings storeapi.Warnings
	// Samples is the number of samples that the evaluation looked at.
	Samples int64
	// Read is 0 with servers of other programs.
	Read QueryRead
}

// withExtras puts settings, times and limits of a request into the metadata of its call.
func withExtras(ctx context.Context, r *QueryRequest) context.Context {
	if r.Settings == "" {
		return ctx
	}
	end := r.End
	if r.Step == 0 {
		end = r.Start
	}
	return metadata.AppendToOutgoingContext(ctx, settingsKey, r.Settings,
		timesKey, joinNumbers(r.Start.UnixMilli(), end.UnixMilli(), r.Step.Milliseconds(), r.Lookback.Milliseconds(), r.MaxResolution.Milliseconds()),
		limitsKey, joinNumbers(r.Limits.Samples, r.Limits.Series, r.Limits.Chunks, r.Limits.Bytes))
}

// readExtras sets the fields of r that the metadata of its call has. Without settings
// it changes nothing.
func readExtras(ctx context.Context, r *QueryRequest) error {
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(key string) string {
		if v := md.Get(key); len(v) > 0 {
			return v[0][:min(len(v[0]), maxSettings)]
		}
		return ""
	}
	if r.Settings = first(settingsKey); r.Settings == "" {
		return nil
	}
	if text := first(timesKey); text != "" {
		var start, end, step, lookback, resolution int64
		if err := splitNumbers(text, &start, &end, &step, &lookback, &resolution); err != nil {
			return err
		}
		const most = math.MaxInt64 / int64(time.Millisecond) / 4
		if min(start, end) < -most || max(start, end) > most || min(step, lookback, resolution) < 0 || max(step, lookback, resolution) > most {
			return fmt.Errorf("%w: times of the query in the metadata are out of range: %s", storeapi.ErrInvalid, text)
		}
		if (step > 0) != (r.Step > 0) || step > 0 && (end < start || (end-start)/step > maxRangePoints) {
			return fmt.Errorf("%w: times of the query in the metadata make no query of at most %d steps: %s", storeapi.ErrInvalid, maxRangePoints, text)
		}
		r.Start, r.End = time.UnixMilli(start), time.UnixMilli(end)
		r.Step, r.Lookback, r.MaxResolution = millis(step), millis(lookback), millis(resolution)
	}
	if text := first(limitsKey); text != "" {
		l := &r.Limits
		return splitNumbers(text, &l.Samples, &l.Series, &l.Chunks, &l.Bytes)
	}
	return nil
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func joinNumbers(all ...int64) string {
	var out []string
	for _, n := range all {
		out = append(out, strconv.FormatInt(n, 10))
	}
	return strings.Join(out, " ")
}

// splitNumbers reads as many numbers as there are places for.
func splitNumbers(text string, into ...*int64) error {
	words := strings.Fields(text)
	if len(words) != len(into) {
		return fmt.Errorf("%w: metadata of the query has %d numbers, not %d", storeapi.ErrInvalid, len(words), len(into))
	}
	for i, w := range words {
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return fmt.Errorf("%w: metadata of the query has %q instead of a number", storeapi.ErrInvalid, w)
		}
		*into[i] = n
	}
	return nil
}

// readFields are the fields of storepb.QueryStats with what was read, int64.
func (r *QueryRead) readFields() map[protowire.Number]*int64 {
	return map[protowire.Number]*int64{7001: &r.Samples, 7002: &r.Series, 7003: &r.Chunks, 7004: &r.Bytes}
}

// queryStats are the statistics of an answer on the wire.
func queryStats(a *QueryAnswer) *storepb.QueryStats {
	out := &storepb.QueryStats{SamplesTotal: a.Samples, PeakSamples: a.PeakSamples}
	var b []byte
	read := a.Read
	for field, v := range read.readFields() {
		b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(*v))
	}
	proto.Message(out).ProtoReflect().SetUnknown(b)
	return out
}

// note adds the statistics of a message, which may be nil.
func (s *QuerySummary) note(m *storepb.QueryStats) {
	if m == nil {
		return
	}
	s.Samples += m.GetSamplesTotal()
	known := s.Read.readFields()
	fields, f := protoscan.Fields{B: m.ProtoReflect().GetUnknown()}, protoscan.Field{}
	for fields.Next(&f) {
		if v := known[protowire.Number(f.Tag>>3)]; v != nil && f.Tag&7 == uint64(protowire.VarintType) {
			*v = max(0, int64(f.Num))
		}
	}
}
