package storerpc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
)

func regexps(n int, value string) (out []*storepb.LabelMatcher) {
	for i := range n {
		out = append(out, &storepb.LabelMatcher{Type: storepb.LabelMatcher_RE, Name: fmt.Sprintf("l%d", i), Value: value})
	}
	return out
}

// No store is asked: a nil one would panic.
func TestServer_RefusesRequestThatCostsTooMuch(t *testing.T) {
	s := &server{}
	for name, ms := range map[string][]*storepb.LabelMatcher{
		"many":                regexps(100_000, "x"),
		"long":                {{Name: "a", Value: strings.Repeat("-", 10<<20)}},
		"repetitions":         regexps(30, strings.Repeat("[a-z]{1000}", 9000/11)),
		"nested repetitions":  regexps(30, strings.Repeat("(a{30}b{3}){30}", 9000/15)),
		"not a regexp at all": {{Type: storepb.LabelMatcher_NRE, Name: "a", Value: "("}},
	} {
		check := func(err error) {
			t.Helper()
			require.Equal(t, codes.InvalidArgument, status.Code(err), name)
			require.Less(t, len(err.Error()), 1000)
		}
		check(s.Series(&storepb.SeriesRequest{Matchers: ms}, nil))
		_, err := s.LabelNames(t.Context(), &storepb.LabelNamesRequest{Matchers: ms})
		check(err)
		_, err = s.LabelValues(t.Context(), &storepb.LabelValuesRequest{Label: "a", Matchers: ms})
		check(err)
		hints, err := toAny(&hintspb.SeriesRequestHints{BlockMatchers: ms})
		require.NoError(t, err)
		check(s.Series(&storepb.SeriesRequest{Hints: hints}, nil))
	}
	many := make([]string, maxRequestLabels+1)
	for _, in := range []*storepb.SeriesRequest{
		{WithoutReplicaLabels: many}, {ShardInfo: &storepb.ShardInfo{Labels: many}},
		{QueryHints: &storepb.QueryHints{ProjectionLabels: many}},
	} {
		require.Equal(t, codes.InvalidArgument, status.Code(s.Series(in, nil)))
	}
}

func TestExemplarsServer_RefusesQueryThatCostsTooMuch(t *testing.T) {
	query := strings.Repeat(`{a=~"`+strings.Repeat("[a-z]{1000}", 800)+`"} + `, 30) + "{a='b'}"
	err := (&exemplarsServer{}).Exemplars(&storepb.ExemplarsRequest{Query: query}, nil)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// Matchers as dashboards send them are accepted: all pods of a large cluster in one.
func TestMatchersFromWire_AcceptsLargeAlternation(t *testing.T) {
	var pods []string
	for i := range 10_000 {
		pods = append(pods, fmt.Sprintf(`api\.server-%d`, i))
	}
	ms, err := matchersFromWire(regexps(1, strings.Join(pods, "|")))
	require.NoError(t, err)
	require.True(t, ms[0].Matches("api.server-77"))
}
