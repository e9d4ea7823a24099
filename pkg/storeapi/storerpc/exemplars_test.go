package storerpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// exemplarStore answers with its content, and keeps the last request.
type exemplarStore struct {
	asked  storeapi.ExemplarRequest
	series []storeapi.ExemplarSeries
	ws     storeapi.Warnings
	err    error
}

func (s *exemplarStore) Exemplars(_ context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	s.asked = *r
	return s.series, s.ws, s.err
}

func exemplarClient(t *testing.T, s *exemplarStore) (*storerpc.Client, *grpc.ClientConn) {
	conn := storetest.Dial(t, func(srv *grpc.Server) { storerpc.RegisterExemplars(srv, s) })
	return storerpc.NewClient(conn, "x:1"), conn
}

func many(n int) (out []exemplar.Exemplar) {
	for i := range n {
		out = append(out, exemplar.Exemplar{
			Labels: labels.FromStrings("trace_id", fmt.Sprintf("%08d", i)), Value: float64(i), Ts: int64(i), HasTs: true,
		})
	}
	return out
}

func TestExemplars_TravelWithWarnings(t *testing.T) {
	s := &exemplarStore{ws: storeapi.Warnings{{Text: "half"}}, series: []storeapi.ExemplarSeries{
		{Labels: labels.FromStrings("__name__", "m", "n", "1"), Exemplars: many(2500)},
		{Labels: labels.FromStrings("__name__", "m", "n", "2"), Exemplars: []exemplar.Exemplar{
			{Value: math.Inf(1), Ts: -5, HasTs: true},
		}},
	}}
	c, _ := exemplarClient(t, s)
	m := func(typ labels.MatchType, name, value string) *labels.Matcher {
		return labels.MustNewMatcher(typ, name, value)
	}
	r := &storeapi.ExemplarRequest{MinTime: -7, MaxTime: math.MaxInt64, Selectors: [][]*labels.Matcher{
		{m(labels.MatchEqual, "__name__", "m"), m(labels.MatchRegexp, "n", `1|"2`+"\n")},
		{m(labels.MatchEqual, "a.b", "")},
		{},
	}}
	got, ws, err := c.Exemplars(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, s.series, got)
	require.Equal(t, storeapi.Warnings{{Source: "x:1", Text: "half"}}, ws)
	require.Equal(t, int64(-7), s.asked.MinTime)
	require.Equal(t, int64(math.MaxInt64), s.asked.MaxTime)
	require.Equal(t, storeapi.PartialWarn, s.asked.Partial)
	var asked []string
	for _, ms := range s.asked.Selectors {
		asked = append(asked, fmt.Sprint(ms))
	}
	require.Equal(t, []string{
		`[__name__="m" n=~"1|\"2\n"]`, `["a.b"="" __name__=~".+"]`, `[__name__=~".+"]`,
	}, asked)

	r.Partial = storeapi.PartialAbort
	_, _, err = c.Exemplars(t.Context(), r)
	require.ErrorIs(t, err, storeapi.ErrPartial)
	s.err = storeapi.ErrUnavailable
	_, _, err = c.Exemplars(t.Context(), r)
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	require.ErrorContains(t, err, "x:1")

	got, ws, err = c.Exemplars(t.Context(), &storeapi.ExemplarRequest{})
	require.NoError(t, err)
	require.Empty(t, got, "no selector, no series")
	require.Empty(t, ws)
}

// TestExemplars_AnswerPromQLOfOtherClients sends PromQL, as Thanos queriers do.
func TestExemplars_AnswerPromQLOfOtherClients(t *testing.T) {
	s := &exemplarStore{series: []storeapi.ExemplarSeries{{Labels: labels.FromStrings("n", "1"), Exemplars: many(2500)}}}
	_, conn := exemplarClient(t, s)
	ask := func(query string) (sizes []int, err error) {
		stream, err := storepb.NewExemplarsClient(conn).Exemplars(t.Context(), &storepb.ExemplarsRequest{Query: query, End: 5})
		require.NoError(t, err)
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return sizes, nil
			}
			if err != nil {
				return nil, err
			}
			sizes = append(sizes, len(m.GetData().GetExemplars()))
		}
	}
	sizes, err := ask(`histogram_quantile(0.9, sum by (le) (rate(a_bucket{x="1"}[5m] offset 1h))) / {__name__="b"}`)
	require.NoError(t, err)
	require.Equal(t, []int{1000, 1000, 500}, sizes)
	require.Len(t, s.asked.Selectors, 2)
	_, err = ask("1 + 1")
	require.NoError(t, err)
	require.Empty(t, s.asked.Selectors)
	for _, query := range []string{"", "{", "up" + strings.Repeat(" ", 1<<20), "up" + strings.Repeat("+up", 1000)} {
		_, err = ask(query)
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	}
}

func TestExemplars_AreBounded(t *testing.T) {
	one := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", strings.Repeat("x", 100_000))}
	s := &exemplarStore{series: []storeapi.ExemplarSeries{{Labels: labels.FromStrings("n", "1"), Exemplars: make([]exemplar.Exemplar, 50)}}}
	for i := range s.series[0].Exemplars {
		s.series[0].Exemplars[i] = one
	}
	c, _ := exemplarClient(t, s)
	r := &storeapi.ExemplarRequest{Selectors: [][]*labels.Matcher{{}}}
	got, _, err := c.Exemplars(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, got[0].Exemplars, 1)
	for range 13 {
		s.series = append(s.series, s.series[0])
	}
	_, _, err = c.Exemplars(t.Context(), r)
	require.ErrorIs(t, err, limit.ErrExceeded, "the whole")
	for range 50 {
		s.series[0].Exemplars = append(s.series[0].Exemplars, one)
	}
	s.series = s.series[:1]
	_, _, err = c.Exemplars(t.Context(), r)
	require.ErrorIs(t, err, limit.ErrExceeded, "one message")
}
