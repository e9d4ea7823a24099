package endpoint

import (
	"log/slog"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// A store that announces the time of its newest sample is named also for times
// after it went away.
func TestMissingStore_MayHaveNewerData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := &server{info: storeapi.Info{MinTime: 1000, MaxTime: 2000}, up: true, state: connectivity.Ready}
		w.servers["a:1"] = s
		set, err := New(Config{
			Specs: []Spec{{Address: "a:1"}, {Address: "b:1"}}, Interval: time.Second, Resolver: w, Dial: w.dial, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		set.Refresh(t.Context())
		require.Equal(t, int64(2000), set.Endpoints()[0].Info().MaxTime)
		s.up = false
		time.Sleep(time.Minute)
		set.Refresh(t.Context())
		a := set.Endpoints()[0]
		require.Equal(t, int64(62_000), a.Info().MaxTime)
		require.Equal(t, int64(2000), a.Status().Info.MaxTime)

		// Nothing is known of a store that never answered.
		all := fanout.New(func() (out []storeapi.Store) {
			for _, e := range set.Endpoints() {
				out = append(out, e)
			}
			return out
		}, fanout.Config{})
		report := func(mint, maxt int64) (out []storeapi.Missing) {
			ctx, report := storeapi.NewReportContext(t.Context())
			set := all.Select(ctx, &storeapi.Request{MinTime: mint, MaxTime: maxt, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "a", "b")}})
			require.False(t, set.Next())
			require.NoError(t, set.Err())
			require.NoError(t, set.Close())
			out, _ = report.Missing()
			for i := range out {
				out[i].Text = ""
			}
			return out
		}
		require.Equal(t, []storeapi.Missing{
			{Store: "a:1", MinTime: 1000, MaxTime: 30_000, Reason: reason.StoreDown},
			{Store: "b:1", MinTime: 0, MaxTime: 30_000, Reason: reason.StoreNeverReached},
		}, report(0, 30_000))
		require.Equal(t, []storeapi.Missing{{Store: "b:1", MinTime: 100_000, MaxTime: 200_000, Reason: reason.StoreNeverReached}}, report(100_000, 200_000))

		s.info.MaxTime = math.MaxInt64
		s.up = true
		set.Refresh(t.Context())
		s.up = false
		time.Sleep(time.Minute)
		set.Refresh(t.Context())
		require.Equal(t, int64(math.MaxInt64), a.Info().MaxTime)
		require.NoError(t, set.close())
	})
}

// A querier above must ask this one whatever labels it looks for, to learn what is
// missing.
func TestUnknownStore_MakesAnnouncedLabelsUnknown(t *testing.T) {
	w := newWorld()
	w.servers["a:1"] = &server{info: storeapi.Info{MaxTime: 5, LabelSets: []labels.Labels{labels.FromStrings("a", "b")}}, up: true, state: connectivity.Ready}
	set, err := New(Config{Specs: []Spec{{Address: "a:1"}, {Address: "b:1"}}, Interval: time.Second, Resolver: w, Dial: w.dial, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	set.Refresh(t.Context())
	all := fanout.New(func() []storeapi.Store { return []storeapi.Store{set.Endpoints()[0], set.Endpoints()[1]} }, fanout.Config{})
	require.Empty(t, all.Info().LabelSets)
	require.Equal(t, int64(math.MaxInt64), all.Info().MaxTime)
	require.NoError(t, set.close())
}
