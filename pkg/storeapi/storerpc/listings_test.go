package storerpc_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// listStore answers with its content, and keeps the last requests.
type listStore struct {
	rules   []storeapi.RuleGroup
	targets storeapi.Targets
	stats   map[string]storeapi.TSDBStats
	ws      storeapi.Warnings
	err     error

	askedRules   storeapi.RulesRequest
	askedTargets storeapi.TargetsRequest
	askedStatus  storeapi.TSDBStatusRequest
}

func (s *listStore) Rules(_ context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	s.askedRules = *r
	return s.rules, s.ws, s.err
}

func (s *listStore) Targets(_ context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	s.askedTargets = *r
	return s.targets, s.ws, s.err
}

func (s *listStore) TSDBStatus(_ context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	s.askedStatus = *r
	return s.stats, s.ws, s.err
}

func listClient(t *testing.T, s *listStore) (*storerpc.Client, *grpc.ClientConn) {
	conn := storetest.Dial(t, func(srv *grpc.Server) {
		storerpc.RegisterRules(srv, s)
		storerpc.RegisterTargets(srv, s)
		storerpc.RegisterStatus(srv, s)
	}, storerpc.ServerOptions()...)
	return storerpc.NewClient(conn, "x:1"), conn
}

func alertGroup() storeapi.RuleGroup {
	at := time.Unix(1_700_000_000, 123).UTC()
	return storeapi.RuleGroup{
		Name: "g", File: "f.yml", Interval: 15, Limit: 7, EvaluationTime: 0.25, LastEvaluation: at, Partial: storeapi.PartialAbort,
		Rules: []storeapi.Rule{
			{
				Alerting: true, State: storeapi.AlertFiring, Name: "Down", Query: "up == 0", For: 60, KeepFiringFor: 30,
				Labels: labels.FromStrings("severity", "page"), Annotations: labels.FromStrings("summary", "it is down"),
				Health: "ok", LastError: "none", EvaluationTime: 0.5, LastEvaluation: at,
				Alerts: []storeapi.Alert{{
					Labels: labels.FromStrings("instance", "a"), Annotations: labels.FromStrings("summary", "a"),
					State: storeapi.AlertPending, ActiveAt: at, Value: "1e+00", Partial: storeapi.PartialAbort,
				}},
			},
			{Name: "r:x", Query: "sum(x)", Labels: labels.FromStrings("a", "b"), Health: "err", LastError: "bad", LastEvaluation: time.Time{}},
		},
	}
}

func TestRules_RoundTrip(t *testing.T) {
	s := &listStore{rules: []storeapi.RuleGroup{alertGroup()}, ws: storeapi.Warnings{{Text: "half"}}}
	c, _ := listClient(t, s)
	m := labels.MustNewMatcher(labels.MatchRegexp, "severity", "page|.*")
	odd := labels.MustNewMatcher(labels.MatchNotEqual, "a label", `"`)
	r := &storeapi.RulesRequest{
		Type: storeapi.RuleAlert, Names: []string{"Down"}, Groups: []string{"g"}, Files: []string{"f.yml"},
		Matchers: [][]*labels.Matcher{{m, odd}, {odd}},
	}
	got, ws, err := c.Rules(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, storeapi.Warnings{{Source: "x:1", Text: "half"}}, ws)
	want := alertGroup()
	want.Rules = want.Rules[:1]
	require.Equal(t, []storeapi.RuleGroup{want}, got, "the client filters, whatever the server does")
	require.Equal(t, fmt.Sprint(r.Matchers), fmt.Sprint(s.askedRules.Matchers))
	require.Equal(t, []any{r.Type, r.Names, r.Groups, r.Files}, []any{s.askedRules.Type, s.askedRules.Names, s.askedRules.Groups, s.askedRules.Files})

	got, _, err = c.Rules(t.Context(), &storeapi.RulesRequest{})
	require.NoError(t, err)
	require.Equal(t, []storeapi.RuleGroup{alertGroup()}, got)

	_, _, err = c.Rules(t.Context(), &storeapi.RulesRequest{Partial: storeapi.PartialAbort})
	require.ErrorIs(t, err, storeapi.ErrPartial)
	s.err = fmt.Errorf("%w: no server", storeapi.ErrUnavailable)
	_, _, err = c.Rules(t.Context(), &storeapi.RulesRequest{})
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	require.ErrorContains(t, err, "fetch rules from x:1")
}

func TestRules_WrongRequestsAreInvalid(t *testing.T) {
	_, conn := listClient(t, &listStore{})
	rules := storepb.NewRulesClient(conn)
	for _, in := range []*storepb.RulesRequest{
		{MatcherString: []string{"{"}},
		{Type: 9},
		{MatcherString: []string{strings.Repeat("a", 2<<20)}},
		{MatcherString: make([]string, 2000)},
	} {
		stream, err := rules.Rules(t.Context(), in)
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	}
	stream, err := storepb.NewTargetsClient(conn).Targets(t.Context(), &storepb.TargetsRequest{State: 7})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestTargets_RoundTrip(t *testing.T) {
	var want storeapi.Targets
	for i := range 1200 {
		want.Active = append(want.Active, storeapi.ActiveTarget{
			Discovered: labels.FromStrings("__address__", "a:1"), Labels: labels.FromStrings("instance", fmt.Sprint(i)),
			ScrapePool: "node", ScrapeURL: "http://a:1/metrics", GlobalURL: "http://g/metrics", LastError: "refused",
			LastScrape: time.Unix(1_700_000_000, 0).UTC(), LastScrapeDuration: 0.5, Health: storeapi.TargetHealth(i % 3),
		})
		want.Dropped = append(want.Dropped, labels.FromStrings("__address__", fmt.Sprint("d", i)))
	}
	s := &listStore{targets: want}
	c, _ := listClient(t, s)
	got, ws, err := c.Targets(t.Context(), &storeapi.TargetsRequest{})
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Equal(t, want, got, "in several messages")
	got, _, err = c.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetDropped})
	require.NoError(t, err)
	require.Equal(t, storeapi.TargetDropped, s.askedTargets.State)
	require.Equal(t, storeapi.Targets{Dropped: want.Dropped}, got)
	s.targets = storeapi.Targets{}
	got, _, err = c.Targets(t.Context(), &storeapi.TargetsRequest{})
	require.NoError(t, err)
	require.Equal(t, storeapi.Targets{}, got)
}

func TestTSDBStatus_RoundTrip(t *testing.T) {
	want := map[string]storeapi.TSDBStats{}
	for i := range 150 {
		list := []storeapi.NamedCount{{Name: "up", Value: math.MaxUint64}, {Name: "x", Value: 1}}
		want[fmt.Sprint("t", i)] = storeapi.TSDBStats{
			Series: 5, LabelPairs: 6, Chunks: 7, MinTime: math.MinInt64, MaxTime: math.MaxInt64,
			SeriesByMetric: list, ValuesByLabel: list[:1], MemoryByLabel: list, SeriesByPair: list[1:],
		}
	}
	s := &listStore{stats: want}
	c, conn := listClient(t, s)
	got, _, err := c.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{
		Limit: 3, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "tenant_id", "t1")},
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, 3, s.askedStatus.Limit)
	require.Equal(t, `[tenant_id="t1"]`, fmt.Sprint(s.askedStatus.Matchers))

	for limit, asked := range map[int32]int{0: 10, -1: 10, math.MaxInt32: 10_000} {
		s.stats = map[string]storeapi.TSDBStats{"a": {}, "b": {}, "": {}}
		stream, err := storepb.NewStatusClient(conn).TSDBStatistics(t.Context(), &storepb.TSDBStatisticsRequest{Limit: limit, Tenant: "b"})
		require.NoError(t, err)
		m, err := stream.Recv()
		require.NoError(t, err)
		require.Len(t, m.GetStatistics().GetStatistics(), 2, "the old field chooses a tenant")
		require.Equal(t, asked, s.askedStatus.Limit)
	}
}

// rawRules streams the given messages.
type rawRules struct {
	storepb.UnimplementedRulesServer
	send  *storepb.RulesResponse
	times int
}

func (r *rawRules) Rules(_ *storepb.RulesRequest, stream grpc.ServerStreamingServer[storepb.RulesResponse]) error {
	for range r.times {
		if err := stream.Send(r.send); err != nil {
			return err
		}
	}
	return nil
}

func rawClient(t *testing.T, r *rawRules) *storerpc.Client {
	conn := storetest.Dial(t, func(srv *grpc.Server) { storepb.RegisterRulesServer(srv, r) }, storerpc.ServerOptions()...)
	return storerpc.NewClient(conn, "x:1")
}

// Invalid texts, numbers, times and states are replaced, so that they can be shown as
// JSON.
func TestRules_WrongValuesAreRepaired(t *testing.T) {
	bad := &labelpb.ZLabelSet{Labels: []*labelpb.Label{{Name: "b\xff", Value: "v\xfe"}, {Name: "", Value: "x"}, {Name: "long", Value: strings.Repeat("x", 17<<20)}}}
	c := rawClient(t, &rawRules{times: 1, send: &storepb.RulesResponse{Result: &storepb.RulesResponse_Group{Group: &storepb.RuleGroup{
		Name: "g\xff", Interval: math.NaN(), EvaluationDurationSeconds: math.Inf(1),
		LastEvaluation: &timestamppb.Timestamp{Seconds: math.MaxInt64},
		Rules: []*storepb.Rule{
			{},
			{Result: &storepb.Rule_Alert{Alert: &storepb.Alert{
				Name: "a", State: 77, Labels: bad, Annotations: bad,
				Alerts: []*storepb.AlertInstance{{State: -3, ActiveAt: &timestamppb.Timestamp{Seconds: math.MinInt64}}},
			}}},
		},
	}}}})
	got, _, err := c.Rules(t.Context(), &storeapi.RulesRequest{})
	require.NoError(t, err)
	g := got[0]
	require.Equal(t, "g\uFFFD", g.Name)
	require.Equal(t, [2]float64{0, 0}, [2]float64{g.Interval, g.EvaluationTime})
	require.True(t, g.LastEvaluation.IsZero())
	require.Len(t, g.Rules, 1, "a rule without a kind is none")
	r := g.Rules[0]
	require.Equal(t, storeapi.AlertUnknown, r.State)
	require.Equal(t, "v\uFFFD", r.Labels.Get("b\uFFFD"))
	require.Equal(t, 1<<20, len(r.Annotations.Get("long")))
	require.Equal(t, storeapi.AlertUnknown, r.Alerts[0].State)
	require.True(t, r.Alerts[0].ActiveAt.IsZero())
}

func TestRules_HostileAnswersAreBounded(t *testing.T) {
	// Two bytes on the wire each, an object each in memory.
	empty := &storepb.RuleGroup{Rules: make([]*storepb.Rule, 1_000_000)}
	for i := range empty.Rules {
		empty.Rules[i] = &storepb.Rule{}
	}
	for name, r := range map[string]*rawRules{
		"many small ones in a message": {times: 1, send: &storepb.RulesResponse{Result: &storepb.RulesResponse_Group{Group: empty}}},
		"without end": {times: math.MaxInt, send: &storepb.RulesResponse{Result: &storepb.RulesResponse_Group{
			Group: &storepb.RuleGroup{Name: strings.Repeat("x", 1<<20)},
		}}},
		"warnings without end": {times: math.MaxInt, send: &storepb.RulesResponse{Result: &storepb.RulesResponse_Warning{Warning: "w"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := rawClient(t, r).Rules(t.Context(), &storeapi.RulesRequest{})
			require.ErrorIs(t, err, limit.ErrExceeded)
			require.ErrorContains(t, err, "x:1")
		})
	}
	small := &rawRules{times: 1, send: &storepb.RulesResponse{Result: &storepb.RulesResponse_Group{Group: &storepb.RuleGroup{Name: "g"}}}}
	_, _, err := rawClient(t, small).Rules(t.Context(), &storeapi.RulesRequest{Budget: limit.NewBudget("rules", 1000)})
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "rules of all stores together take more than 1000 bytes")
}

func TestLists_Unimplemented(t *testing.T) {
	conn := storetest.Dial(t, func(*grpc.Server) {})
	c := storerpc.NewClient(conn, "x:1")
	_, _, err1 := c.Rules(t.Context(), &storeapi.RulesRequest{})
	_, _, err2 := c.Targets(t.Context(), &storeapi.TargetsRequest{})
	_, _, err3 := c.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{})
	for _, err := range []error{err1, err2, err3} {
		require.Equal(t, codes.Unimplemented, status.Code(errors.Unwrap(err)), "%v", err)
		require.ErrorContains(t, err, "x:1")
	}
}
