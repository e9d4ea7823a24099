package fanout_test

import (
	"context"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// strict refuses the requests that servers of the protocol refuse: series without a matcher
// beside those on external labels, and what Prometheus's own API refuses, a
// selector that an absent label satisfies.
type strict struct {
	*storetest.Fake
	name string
}

func (s strict) Name() string { return s.name }

func (s strict) refuse(r *storeapi.Request, series bool) error {
	for _, ls := range s.About.LabelSets {
		rest, ok := storeapi.MatchExternal(ls, r.Matchers)
		if !ok {
			continue
		}
		narrow := slices.ContainsFunc(rest, func(m *labels.Matcher) bool { return !m.Matches("") })
		if series && len(rest) == 0 || s.About.Component == "sidecar" && !narrow && (series && r.SkipChunks || !series && len(rest) > 0) {
			return storeapi.ErrNoMatchers
		}
	}
	return nil
}

func (s strict) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	if err := s.refuse(r, true); err != nil {
		return storeapi.ErrSet(err)
	}
	return s.Fake.Select(ctx, r)
}

func (s strict) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if err := s.refuse(r, false); err != nil {
		return nil, nil, err
	}
	return s.Fake.LabelNames(ctx, r)
}

func (s strict) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if err := s.refuse(r, false); err != nil {
		return nil, nil, err
	}
	return s.Fake.LabelValues(ctx, name, r)
}

// An external label is a label like any other, whatever kind of matcher selects
// by it, and whatever stores are behind the querier.
func TestSelect_ByExternalLabelsOnly(t *testing.T) {
	matcher := labels.MustNewMatcher
	for name, ms := range map[string][]*labels.Matcher{
		"equal":          {matcher(labels.MatchEqual, "cluster", "a")},
		"not equal":      {matcher(labels.MatchNotEqual, "cluster", "b")},
		"regexp":         {matcher(labels.MatchRegexp, "cluster", "a|c")},
		"not regexp":     {matcher(labels.MatchNotRegexp, "cluster", "b|c")},
		"may be missing": {matcher(labels.MatchRegexp, "cluster", "a|")},
		"with an absent label": {
			matcher(labels.MatchEqual, "cluster", "a"), matcher(labels.MatchEqual, "none", ""), matcher(labels.MatchNotEqual, "none", "x"),
		},
	} {
		for _, component := range []string{"sidecar", "store", "receive", "rule", "query", "debug"} {
			for _, skip := range []bool{false, true} {
				a, b := fake(t, "a", "m1", "m2"), fake(t, "b", "m1", "m2")
				a.About.Component, b.About.Component = component, component
				f := fanout.New(of(strict{a, "a:1"}, strict{b, "b:2"}), fanout.Config{})
				r := request(ms...)
				r.SkipChunks, r.Partial = skip, storeapi.PartialAbort
				got := read(t, f.Select(t.Context(), r))
				require.NoError(t, got.err, "%s %s", name, component)
				require.Len(t, got.series, 2, "%s %s", name, component)

				names, ws, err := f.LabelNames(t.Context(), r)
				require.NoError(t, err)
				require.Empty(t, ws)
				require.Contains(t, names, "cluster")
				values, _, err := f.LabelValues(t.Context(), "__name__", r)
				require.NoError(t, err)
				require.Equal(t, []string{"m1", "m2"}, values)
			}
		}
	}
}

// The same where the querier has labels of its own.
func TestSelect_BySelectorLabelsOnly(t *testing.T) {
	f := fanout.New(of(strict{fake(t, "a", "m1"), "a:1"}, fake(t, "b", "m1")), fanout.Config{SelectorLabels: labels.FromStrings("q", "1")})
	got := read(t, f.Select(t.Context(), request(labels.MustNewMatcher(labels.MatchEqual, "q", "1"))))
	require.NoError(t, got.err)
	require.Len(t, got.series, 2)
	none := request()
	none.Matchers = nil
	require.ErrorIs(t, read(t, f.Select(t.Context(), none)).err, storeapi.ErrInvalid)
}

// A server without a Store API, as a ruler without storage, is not asked, and a
// query that wants everything does not fail without it.
func TestServerWithoutStore_IsNotQueried(t *testing.T) {
	ruler := fake(t, "r", "m1")
	ruler.About.NoStore, ruler.LabelsErr = true, storeapi.ErrUnavailable
	ruler.About.MinTime, ruler.About.MaxTime = -1, 1<<62
	f := fanout.New(of(named{Store: dieAfter(ruler, 0), name: "ruler:1"}, fake(t, "a", "m1")), fanout.Config{})
	r := request()
	r.Partial = storeapi.PartialAbort
	got := read(t, f.Select(t.Context(), r))
	require.NoError(t, got.err)
	require.Len(t, got.series, 1)
	_, ws, err := f.LabelNames(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, ws)
	require.NotEqual(t, int64(1<<62), f.Info().MaxTime)
}
