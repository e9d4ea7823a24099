package fanout_test

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// required is a strict store.
type required struct{ named }

func (required) Strict() bool { return true }

// self is a store that is not asked.
type self struct{ named }

func (self) Skips(context.Context) (reason.Reason, bool) { return reason.StoreIsSelf, true }

func TestReport_NamesStoreLabelsAndTimes(t *testing.T) {
	bad := dieAfter(fake(t, "bad", "m1"), 0)
	bad.About.MinTime, bad.About.MaxTime = 500, 4000
	bad.About.LabelSets = append(bad.About.LabelSets, labels.FromStrings("cluster", "other"))
	f := fanout.New(of(named{Store: bad, name: "bad:1"}, named{Store: fake(t, "good", "m1"), name: "good:1"}), fanout.Config{})
	of := func(partial storeapi.PartialResponse, ms ...*labels.Matcher) ([]storeapi.Missing, error) {
		ctx, report := storeapi.NewReportContext(t.Context())
		r := request(ms...)
		r.MinTime, r.MaxTime, r.Partial = 1000, 9000, partial
		a := read(t, f.Select(ctx, r))
		all, _ := report.Missing()
		return all, a.err
	}
	want := []storeapi.Missing{{
		Store: "bad:1", LabelSets: []labels.Labels{labels.FromStrings("cluster", "bad")}, MinTime: 1000, MaxTime: 4000,
		Reason: reason.StoreFailed, Text: "receive series from bad:1: disk on fire",
	}}
	for _, partial := range []storeapi.PartialResponse{storeapi.PartialWarn, storeapi.PartialAbort} {
		got, err := of(partial, labels.MustNewMatcher(labels.MatchRegexp, "cluster", "bad|good"))
		require.Equal(t, want, got)
		require.Equal(t, partial == storeapi.PartialAbort, err != nil)
	}
	got, err := of(storeapi.PartialAbort, labels.MustNewMatcher(labels.MatchEqual, "cluster", "good"))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestReport_LabelCalls(t *testing.T) {
	bad := fake(t, "bad", "m1")
	bad.LabelsErr = errors.New("disk on fire")
	f := fanout.New(of(named{Store: bad, name: "bad:1"}), fanout.Config{})
	ctx, report := storeapi.NewReportContext(t.Context())
	_, _, err := f.LabelNames(ctx, request())
	require.NoError(t, err)
	_, _, err = f.LabelValues(ctx, "x", request())
	require.NoError(t, err)
	all, _ := report.Missing()
	require.Len(t, all, 1)
	require.Equal(t, "bad:1", all[0].Store)
	require.Equal(t, reason.StoreFailed, all[0].Reason)
}

func TestStrictStore_FailsPartialRequestsThatNeedIt(t *testing.T) {
	bad := required{named{Store: dieAfter(fake(t, "bad", "m1"), 0), name: "bad:1"}}
	f := fanout.New(of(bad, named{Store: fake(t, "good", "m1"), name: "good:1"}), fanout.Config{})
	a := read(t, f.Select(t.Context(), request()))
	require.ErrorIs(t, a.err, storeapi.ErrPartial)
	require.ErrorContains(t, a.err, "bad:1")
	a = read(t, f.Select(t.Context(), request(labels.MustNewMatcher(labels.MatchEqual, "cluster", "good"))))
	require.NoError(t, a.err)
	require.Len(t, a.series, 1)

	dead := fake(t, "bad", "m1")
	dead.LabelsErr = errors.New("disk on fire")
	f = fanout.New(of(required{named{Store: dead, name: "bad:1"}}), fanout.Config{})
	_, _, err := f.LabelNames(t.Context(), request())
	require.ErrorContains(t, err, "bad:1")
}

func TestSkippedStore_IsReportedAndNotMissing(t *testing.T) {
	f := fanout.New(of(self{named{Store: dieAfter(fake(t, "a", "m1"), 0), name: "self:1"}}), fanout.Config{})
	ctx, report := storeapi.NewReportContext(t.Context())
	r := request()
	r.Partial = storeapi.PartialAbort
	require.NoError(t, read(t, f.Select(ctx, r)).err)
	require.Equal(t, []storeapi.Skipped{{Store: "self:1", Reason: reason.StoreIsSelf}}, report.Skipped())
	require.False(t, report.Warned())
}

// lying announces cluster=a and sends series of cluster=b.
func lying(t *testing.T) named {
	f := fake(t, "a", "m1")
	f.Wrap = func(context.Context, *storeapi.Request, storeapi.SeriesSet) storeapi.SeriesSet {
		return storeapi.NewSliceSet([]storeapi.Series{
			{Labels: labels.FromStrings("__name__", "m1", "cluster", "a")},
			{Labels: labels.FromStrings("__name__", "m1", "cluster", "b")},
		})
	}
	return named{Store: f, name: "lying:1"}
}

func TestLyingStore_SeriesThatWereNotSelectedAreLeftOutAndNamed(t *testing.T) {
	f := fanout.New(of(lying(t)), fanout.Config{})
	ctx, report := storeapi.NewReportContext(t.Context())
	a := read(t, f.Select(ctx, request(labels.MustNewMatcher(labels.MatchEqual, "cluster", "a"))))
	require.NoError(t, a.err)
	require.Len(t, a.series, 1)
	require.Contains(t, a.warnings[0], `left out 1 series that the request does not select`)
	all, _ := report.Missing()
	require.Equal(t, reason.StoreInvalidData, all[0].Reason)
}

// The labels of the store are not believed any more, so that it is asked for others.
func TestLyingStore_IsAskedForAllLabelsOnceItIsSeen(t *testing.T) {
	f := fanout.New(of(lying(t)), fanout.Config{})
	b := request(labels.MustNewMatcher(labels.MatchEqual, "cluster", "b"))
	require.Empty(t, read(t, f.Select(t.Context(), b)).series)
	require.Len(t, read(t, f.Select(t.Context(), request())).series, 2)
	require.Len(t, read(t, f.Select(t.Context(), b)).series, 1)
}

// A store whose external labels change sends series with the new ones before it announces
// them. Once it does, it is chosen by its labels again.
func TestMislabeledStore_IsTrustedOnceItAnnouncesItsLabels(t *testing.T) {
	st := fake(t, "b", "m1")
	st.About.LabelSets = []labels.Labels{labels.FromStrings("cluster", "a", "replica", "0")}
	asked := &requests{}
	f := fanout.New(of(named{Store: st, name: "sidecar:1", asked: asked}), fanout.Config{})
	all := request()
	all.WithoutReplicaLabels = []string{"replica"}
	require.Len(t, read(t, f.Select(t.Context(), all)).series, 1)
	a := request(labels.MustNewMatcher(labels.MatchEqual, "cluster", "a"))
	read(t, f.Select(t.Context(), a))
	require.Len(t, asked.list, 2, "the store may have any labels")
	st.About.LabelSets = []labels.Labels{labels.FromStrings("cluster", "b", "replica", "0")}
	require.Empty(t, read(t, f.Select(t.Context(), a)).series)
	require.Len(t, asked.list, 2, "the store has only those that it announces")
}

// A querier announces its selector labels, which are not on its series.
func TestSelectorLabels_AreNoLie(t *testing.T) {
	inner := fanout.New(of(fake(t, "a", "m1")), fanout.Config{SelectorLabels: labels.FromStrings("zone", "eu")})
	f := fanout.New(of(named{Store: inner, name: "query:1"}), fanout.Config{})
	a := read(t, f.Select(t.Context(), request(labels.MustNewMatcher(labels.MatchEqual, "zone", "eu"), labels.MustNewMatcher(labels.MatchEqual, "cluster", "a"))))
	require.Len(t, a.series, 1)
	require.Empty(t, a.warnings)
}
