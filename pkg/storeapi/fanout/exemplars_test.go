package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// exemplarFake has one exemplar for each of its label sets, whatever is asked.
type exemplarFake struct {
	storeapi.Store
	component string
	sets      []labels.Labels
	asked     *[]string
	ws        storeapi.Warnings
	err       error
}

func (f exemplarFake) Name() string { return f.component + ":1" }

func (f exemplarFake) Info() storeapi.Info {
	return storeapi.Info{Component: f.component, LabelSets: f.sets, MinTime: 1000, MaxTime: 2000}
}

func (f exemplarFake) Exemplars(_ context.Context, r *storeapi.ExemplarRequest) (out []storeapi.ExemplarSeries, _ storeapi.Warnings, _ error) {
	*f.asked = (*f.asked)[:0]
	for _, ms := range r.Selectors {
		*f.asked = append(*f.asked, fmt.Sprint(ms))
	}
	for _, ls := range f.sets {
		b := labels.NewBuilder(ls).Set("__name__", "m")
		out = append(out, storeapi.ExemplarSeries{Labels: b.Labels(), Exemplars: []exemplar.Exemplar{{Value: 1}}})
	}
	return out, f.ws, f.err
}

func TestExemplars_QueryMatchingStores(t *testing.T) {
	is := func(pairs ...string) (ms []*labels.Matcher) {
		for i := 0; i < len(pairs); i += 2 {
			ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, pairs[i], pairs[i+1]))
		}
		return ms
	}
	tenants := []labels.Labels{labels.FromStrings("cluster", "eu", "tenant", "a"), labels.FromStrings("cluster", "eu", "tenant", "b")}
	var sidecar, receive, querier []string
	stores := []storeapi.Store{
		exemplarFake{component: "sidecar", sets: []labels.Labels{labels.FromStrings("cluster", "us")}, asked: &sidecar},
		exemplarFake{component: "receive", sets: tenants, asked: &receive},
		exemplarFake{component: "query", sets: tenants[:1], asked: &querier},
		fake(t, "eu", "m"),
	}
	f := fanout.New(of(stores...), fanout.Config{SelectorLabels: labels.FromStrings("zone", "1")})
	ask := func(selectors ...[]*labels.Matcher) string {
		sidecar, receive, querier = nil, nil, nil
		got, ws, err := f.Exemplars(t.Context(), &storeapi.ExemplarRequest{Selectors: selectors})
		require.NoError(t, err)
		require.Empty(t, ws)
		var out []string
		for _, s := range got {
			require.Len(t, s.Exemplars, 1, "two stores had the same")
			out = append(out, s.Labels.Get("cluster")+s.Labels.Get("tenant"))
		}
		return strings.Join(out, " ")
	}
	require.Equal(t, "eua eub us", ask(is("__name__", "m")))
	require.Equal(t, "us", ask(is("cluster", "us", "__name__", "m", "zone", "1")))
	require.Equal(t, []string{`[__name__="m"]`}, sidecar)
	require.Nil(t, receive)
	require.Nil(t, querier)
	require.Equal(t, "eub", ask(is("cluster", "eu", "tenant", "b", "__name__", "m")), "what was not asked for is dropped")
	require.Equal(t, []string{`[tenant="b" __name__="m"]`}, receive)
	require.Nil(t, querier)
	require.Equal(t, "eua us", ask(is("cluster", "eu", "tenant", "a"), is("cluster", "us")))
	require.Equal(t, []string{`[]`}, sidecar)
	require.Equal(t, []string{`[cluster="eu" tenant="a"]`}, querier)
	require.Empty(t, ask(is("zone", "2")))
	require.Empty(t, ask())
	require.Empty(t, ask(is("__name__", "other")))

	f = fanout.New(of(stores...), fanout.Config{Filter: func(i storeapi.Info) ([]*labels.Matcher, bool) {
		return is("tenant", "b"), i.Component == "receive"
	}})
	require.Equal(t, "eub", ask(is("__name__", "m")))
	require.Nil(t, sidecar)

	f = fanout.New(of(stores...), fanout.Config{})
	got, _, err := f.Exemplars(t.Context(), &storeapi.ExemplarRequest{
		Selectors: [][]*labels.Matcher{{}}, StoreMatchers: [][]*labels.Matcher{is("__address__", "sidecar:1")},
	})
	require.NoError(t, err)
	require.Len(t, got, 1)
}

func TestExemplars_WarnOrAbort(t *testing.T) {
	var asked []string
	good := exemplarFake{component: "sidecar", sets: []labels.Labels{labels.FromStrings("a", "1")}, asked: &asked}
	var other []string
	sets := []labels.Labels{labels.FromStrings("a", "2"), labels.FromStrings("a", "3")}
	bad := exemplarFake{component: "receive", sets: sets, asked: &other, err: errors.New("burnt down")}
	half := exemplarFake{component: "query", sets: sets, asked: new([]string), ws: storeapi.Warnings{{Text: "half"}}}
	f := fanout.New(of(good, bad, half), fanout.Config{})
	r := &storeapi.ExemplarRequest{MinTime: 5, MaxTime: 7, Selectors: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchNotEqual, "a", "3")}}}
	ctx, report := storeapi.NewReportContext(t.Context())
	got, ws, err := f.Exemplars(ctx, r)
	require.NoError(t, err)
	require.Len(t, got, 2)
	missing, _ := report.Missing()
	require.Equal(t, []storeapi.Missing{
		{Store: "query:1", LabelSets: sets[:1], MinTime: 5, MaxTime: 7, Reason: reason.StoreWarning, Text: "half"},
		{Store: "receive:1", LabelSets: sets[:1], MinTime: 5, MaxTime: 7, Reason: reason.StoreFailed, Text: "fetch exemplars from store receive:1: burnt down"},
	}, missing)
	require.Equal(t, []string{"fetch exemplars from store receive:1: burnt down", "half"}, ws.Strings())
	require.True(t, slices.ContainsFunc(ws, func(w storeapi.Warning) bool { return w.Source == "query:1" }))
	r.Partial = storeapi.PartialAbort
	_, _, err = f.Exemplars(t.Context(), r)
	require.ErrorIs(t, err, storeapi.ErrPartial)
	_, _, err = fanout.New(of(good, half), fanout.Config{}).Exemplars(t.Context(), r)
	require.ErrorIs(t, err, storeapi.ErrPartial)
}

// lyingExemplars has an exemplar of a cluster that it does not announce.
type lyingExemplars struct{ named }

func (lyingExemplars) Exemplars(context.Context, *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	return []storeapi.ExemplarSeries{{Labels: labels.FromStrings("__name__", "m1", "cluster", "b"), Exemplars: []exemplar.Exemplar{{Value: 1}}}}, nil, nil
}

func TestExemplars_LyingStoreIsAskedOnceItIsSeen(t *testing.T) {
	f := fanout.New(of(lyingExemplars{lying(t)}), fanout.Config{})
	r := &storeapi.ExemplarRequest{Selectors: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "cluster", "b")}}}
	got, _, err := f.Exemplars(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, got, "chosen by what it announces")
	require.Len(t, read(t, f.Select(t.Context(), request())).series, 2)
	got, _, err = f.Exemplars(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, got, 1)
}
