package fanout_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// listFake has rules, targets and statistics, or fails, or hangs.
type listFake struct {
	storeapi.Store
	name string
	ext  labels.Labels
	ws   storeapi.Warnings
	err  error
	hang bool
	// budget is that of the last request.
	budget *limit.Budget
	asked  int
}

func (f *listFake) Name() string { return f.name }

func (f *listFake) Info() storeapi.Info {
	return storeapi.Info{Component: "sidecar", LabelSets: []labels.Labels{f.ext}}
}

func (f *listFake) wait(ctx context.Context, b *limit.Budget) error {
	f.budget, f.asked = b, f.asked+1
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *listFake) Rules(ctx context.Context, r *storeapi.RulesRequest) ([]storeapi.RuleGroup, storeapi.Warnings, error) {
	rules := []storeapi.Rule{{Name: "keep", Labels: f.ext}, {Name: "drop", Labels: f.ext}}
	return []storeapi.RuleGroup{{Name: "g", File: "f", Rules: rules}}, f.ws, f.wait(ctx, r.Budget)
}

func (f *listFake) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	return storeapi.Targets{Active: []storeapi.ActiveTarget{{Labels: f.ext}}, Dropped: []labels.Labels{f.ext}}, f.ws, f.wait(ctx, r.Budget)
}

func (f *listFake) TSDBStatus(ctx context.Context, r *storeapi.TSDBStatusRequest) (map[string]storeapi.TSDBStats, storeapi.Warnings, error) {
	return map[string]storeapi.TSDBStats{"": {Series: 2}}, f.ws, f.wait(ctx, r.Budget)
}

// size asks for all three lists and returns the number of rules, targets and
// series.
func size(t *testing.T, s *fanout.Store, partial storeapi.PartialResponse) (n [3]int, ws storeapi.Warnings, err error) {
	groups, ws1, err1 := s.Rules(t.Context(), &storeapi.RulesRequest{Names: []string{"keep"}, Partial: partial})
	for _, g := range groups {
		n[0] += len(g.Rules)
	}
	targets, ws2, err2 := s.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetActive, Partial: partial})
	require.Empty(t, targets.Dropped)
	n[1] = len(targets.Active)
	stats, ws3, err3 := s.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 10, Partial: partial})
	n[2] = int(stats[""].Series)
	require.Equal(t, [2]bool{err1 == nil, err1 == nil}, [2]bool{err2 == nil, err3 == nil})
	require.Equal(t, [2]int{len(ws1), len(ws1)}, [2]int{len(ws2), len(ws3)})
	return n, ws1, errors.Join(err1, err2, err3)
}

func TestLists_AreMergedAndFiltered(t *testing.T) {
	a := &listFake{name: "a:1", ext: labels.FromStrings("replica", "a")}
	b := &listFake{name: "b:1", ext: labels.FromStrings("replica", "b")}
	f := fanout.New(of(a, b, fake(t, "eu", "m")), fanout.Config{})
	n, ws, err := size(t, f, storeapi.PartialAbort)
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Equal(t, [3]int{2, 2, 4}, n)
	require.NotNil(t, a.budget)
	require.Same(t, a.budget, b.budget, "one budget for all")
}

func TestLists_MissingStore(t *testing.T) {
	a := &listFake{name: "a:1", ext: labels.FromStrings("replica", "a")}
	b := &listFake{name: "b:1", ext: labels.FromStrings("replica", "b"), err: errors.New("broken")}
	f := fanout.New(of(a, b), fanout.Config{})
	n, ws, err := size(t, f, storeapi.PartialWarn)
	require.NoError(t, err)
	require.Equal(t, [3]int{1, 1, 2}, n)
	require.Len(t, ws, 1)
	require.Equal(t, "b:1", ws[0].Source)
	require.Contains(t, ws[0].Text, "broken")
	_, _, err = size(t, f, storeapi.PartialAbort)
	require.ErrorIs(t, err, storeapi.ErrPartial)
	require.ErrorContains(t, err, "b:1")

	// A store that names its missing parts itself.
	b.err, b.ws = nil, storeapi.Warnings{{Text: "half of it"}}
	_, ws, err = size(t, f, storeapi.PartialWarn)
	require.NoError(t, err)
	require.Equal(t, storeapi.Warnings{{Source: "b:1", Text: "half of it"}}, ws)
	_, _, err = size(t, f, storeapi.PartialAbort)
	require.ErrorIs(t, err, storeapi.ErrPartial)
}

func TestLists_StoreThatHangsCostsItsPart(t *testing.T) {
	a := &listFake{name: "a:1"}
	b := &listFake{name: "b:1", hang: true}
	f := fanout.New(of(a, b), fanout.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	groups, ws, err := f.Rules(ctx, &storeapi.RulesRequest{})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Len(t, ws, 1)
	require.Contains(t, ws[0].Text, "b:1")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = f.Rules(gone, &storeapi.RulesRequest{})
	require.ErrorIs(t, err, context.Canceled, "no store is to blame")
}

func TestTSDBStatus_AsksOnlyChosenStores(t *testing.T) {
	a := &listFake{name: "a:1", ext: labels.FromStrings("tenant_id", "red")}
	b := &listFake{name: "b:1", ext: labels.FromStrings("tenant_id", "blue")}
	c := &listFake{name: "c:1", ext: labels.FromStrings("cluster", "eu")}
	f := fanout.New(of(a, b, c), fanout.Config{})
	got, ws, err := f.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{
		Limit: 1, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "tenant_id", "red")},
	})
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Equal(t, uint64(2), got[""].Series)
	require.Equal(t, [3]int{1, 0, 0}, [3]int{a.asked, b.asked, c.asked}, "an absent label is the empty string")
}

func TestLists_StoreMatchers(t *testing.T) {
	a, b := &listFake{name: "a:1"}, &listFake{name: "b:1"}
	f := fanout.New(of(a, b), fanout.Config{})
	only := [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "__address__", "b:1")}}
	_, _, err := f.Targets(t.Context(), &storeapi.TargetsRequest{StoreMatchers: only})
	require.NoError(t, err)
	require.Equal(t, [2]int{0, 1}, [2]int{a.asked, b.asked})
}
