package storerpc

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Times in milliseconds and limits reach the server; without settings nothing does.
func TestQueryExtras_RoundTrip(t *testing.T) {
	sent := &QueryRequest{
		Start: time.UnixMilli(-1500), End: time.UnixMilli(7001), Step: 250 * time.Millisecond, Lookback: 1500 * time.Millisecond,
		MaxResolution: time.Minute, Settings: "1", Limits: QueryLimits{Samples: 1, Series: 2, Chunks: 3, Bytes: 4},
	}
	through := func(r, got *QueryRequest) error {
		md, _ := metadata.FromOutgoingContext(withExtras(t.Context(), r))
		return readExtras(metadata.NewIncomingContext(t.Context(), md), got)
	}
	got := &QueryRequest{Step: time.Second}
	require.NoError(t, through(sent, got))
	require.Equal(t, sent, got)
	plain := &QueryRequest{Step: time.Second}
	require.NoError(t, through(&QueryRequest{Start: time.UnixMilli(5), Limits: sent.Limits}, plain))
	require.Equal(t, &QueryRequest{Step: time.Second}, plain)
}

func TestQueryExtras_RefusesHostileMetadata(t *testing.T) {
	for _, times := range []string{
		"x", "1 2 3", "1 2 3 4 5 6", "9223372036854775807 0 0 0 0", "-9223372036854775808 0 0 0 0", "0 0 -1 0 0", "0 0 0 -1 0", "0 0 0 0 9223372036854775807",
		"0 10000000 1 0 0", "10 5 1 0 0", "0 5 0 0 0",
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(settingsKey, "1", timesKey, times))
		require.ErrorIs(t, readExtras(ctx, &QueryRequest{Step: time.Second}), storeapi.ErrInvalid, times)
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(settingsKey, "1", limitsKey, "1 2"))
	require.ErrorIs(t, readExtras(ctx, &QueryRequest{}), storeapi.ErrInvalid)
}

// Nothing could add such a histogram: the addition would not end.
func TestQueryResults_RefuseZeroThresholdThatIsNotANumber(t *testing.T) {
	h := tsdbutil.GenerateTestFloatHistogram(1)
	result := promql.Series{Histograms: []promql.HPoint{{T: 1, H: h}}}
	_, err := querySeriesFromWire(matrixSeries(result))
	require.NoError(t, err)
	h.ZeroThreshold = math.NaN()
	_, err = querySeriesFromWire(matrixSeries(result))
	require.ErrorContains(t, err, "zero threshold")
}

// The generated code takes the negative zero for the absent value.
func TestQueryResults_KeepNegativeZero(t *testing.T) {
	b, err := matrixSeries(promql.Series{Floats: []promql.FPoint{{T: 1, F: math.Copysign(0, -1)}, {T: 2}}}).MarshalVT()
	require.NoError(t, err)
	in := matrixSeries(promql.Series{})
	require.NoError(t, in.UnmarshalVT(b))
	got, err := querySeriesFromWire(in)
	require.NoError(t, err)
	require.True(t, math.Signbit(got.Floats[0].F))
	require.False(t, math.Signbit(got.Floats[1].F))
}
