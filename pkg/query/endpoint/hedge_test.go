package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// knownHedge returns a hedge that knows waits of 10 ms.
func knownHedge() *hedge {
	h := &hedge{metrics: newMetrics(nil), tokens: hedgeBurst}
	for range paceEnough {
		h.waited(10 * time.Millisecond)
	}
	return h
}

// slowSet has one series after a time, or fails.
type slowSet struct {
	storeapi.SeriesSet
	ctx    context.Context
	after  time.Duration
	fail   error
	closed *atomic.Int64
	n      int
	err    error
}

func (s *slowSet) Next() bool {
	if s.n++; s.n > 1 {
		return false
	}
	select {
	case <-time.After(s.after):
		s.err = s.fail
	case <-s.ctx.Done():
		s.err = s.ctx.Err()
	}
	return s.err == nil
}

func (s *slowSet) Err() error { return s.err }

func (s *slowSet) Close() error { s.closed.Add(1); return nil }

// group is a group of two members.
type group struct {
	after  [2]time.Duration
	fail   [2]error
	opened atomic.Int64
	closed atomic.Int64
}

func (g *group) open(ctx context.Context) storeapi.SeriesSet {
	i := g.opened.Add(1) - 1
	return &slowSet{SeriesSet: storeapi.EmptySet(), ctx: ctx, after: g.after[i], fail: g.fail[i], closed: &g.closed}
}

func TestHedge_FirstAnswerWins(t *testing.T) {
	const ms = time.Millisecond
	broken, full := errors.New("disk on fire"), &limit.Error{What: "series", Max: 1, Needed: 2}
	for name, c := range map[string]struct {
		group   *group
		took    time.Duration
		opened  int64
		err     error
		outcome string
	}{
		"fast":                 {&group{after: [2]time.Duration{49 * ms}}, 49 * ms, 1, nil, ""},
		"slow, second wins":    {&group{after: [2]time.Duration{time.Hour, 5 * ms}}, 55 * ms, 2, nil, hedgeSecond},
		"slow, first wins":     {&group{after: [2]time.Duration{60 * ms, time.Hour}}, 60 * ms, 2, nil, hedgeFirst},
		"slow, second fails":   {&group{after: [2]time.Duration{70 * ms, 5 * ms}, fail: [2]error{nil, broken}}, 70 * ms, 2, nil, hedgeFirst},
		"fails at once":        {&group{after: [2]time.Duration{0, 5 * ms}, fail: [2]error{broken}}, 5 * ms, 2, nil, hedgeSecond},
		"both fail":            {&group{fail: [2]error{broken, errors.New("other")}}, 0, 2, broken, hedgeFailed},
		"fails for its limits": {&group{fail: [2]error{full}}, 0, 1, full, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := knownHedge()
				start := time.Now()
				s := newHedgedSet(t.Context(), h, c.group.open)
				require.Equal(t, c.err == nil, s.Next())
				require.Equal(t, c.took, time.Since(start))
				require.False(t, s.Next())
				require.Equal(t, c.err, s.Err())
				require.NoError(t, s.Close())
				require.Equal(t, c.opened, c.group.opened.Load())
				require.Equal(t, c.opened, c.group.closed.Load())
				for _, o := range []string{hedgeFirst, hedgeSecond, hedgeFailed, hedgeNoBudget} {
					want := 0.0
					if o == c.outcome {
						want = 1
					}
					require.Equal(t, want, testutil.ToFloat64(h.metrics.hedged.WithLabelValues(o)), o)
				}
			})
		})
	}
}

// The test hangs if something waits for a member after the end.
func TestHedge_ClosesBeforeTheFirstFrameAndWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &group{after: [2]time.Duration{time.Hour, time.Hour}}
		require.NoError(t, newHedgedSet(t.Context(), knownHedge(), g.open).Close())
		require.Equal(t, int64(1), g.closed.Load())
		g = &group{after: [2]time.Duration{time.Hour, time.Hour}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := newHedgedSet(ctx, knownHedge(), g.open)
		require.False(t, s.Next())
		require.ErrorIs(t, s.Err(), context.DeadlineExceeded)
		require.NoError(t, s.Close())
		require.Equal(t, int64(2), g.closed.Load())
	})
}

func TestHedge_AsksAtMostFivePercentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := knownHedge()
		asked := 0
		for range 1000 {
			g := &group{after: [2]time.Duration{100 * time.Millisecond, 100 * time.Millisecond}}
			for range paceEnough {
				h.waited(10 * time.Millisecond)
			}
			s := newHedgedSet(t.Context(), h, g.open)
			require.True(t, s.Next())
			require.NoError(t, s.Close())
			asked += int(g.opened.Load())
		}
		require.InDelta(t, 1000+hedgeBurst+50, asked, 15)
	})
}

// A member that hangs for long costs each of its requests the wait for the hedge only.
func TestHedge_MemberThatHangsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := knownHedge()
		for range 500 {
			g := &group{after: [2]time.Duration{time.Hour, 5 * time.Millisecond}}
			start := time.Now()
			s := newHedgedSet(t.Context(), h, g.open)
			require.True(t, s.Next())
			require.Equal(t, 55*time.Millisecond, time.Since(start))
			require.NoError(t, s.Close())
		}
		require.Zero(t, testutil.ToFloat64(h.metrics.hedged.WithLabelValues(hedgeNoBudget)))
	})
}

// loopbacks resolves each name to two addresses of the loopback interface.
type loopbacks struct{ Resolver }

func (loopbacks) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}, {IP: net.IPv4(127, 0, 0, 2)}}, nil
}

// groupOfTwo serves an endpoint group of two members over gRPC that have equal data. The
// first members of them, hanging in number, hang in every request for series.
func groupOfTwo(t *testing.T, hanging int, frameTimeout time.Duration) (*Set, *Endpoint) {
	first := listen(t)
	_, port, err := net.SplitHostPort(first.Addr().String())
	require.NoError(t, err)
	other, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Skip("the machine has no second loopback address: ", err)
	}
	for i, lis := range []net.Listener{first, other} {
		leaf := storetest.NewFake(t, storetest.Data{
			Series: []storetest.Series{{Labels: labels.FromStrings("__name__", "m"), Samples: storetest.Floats(1000, 10, 5)}},
		})
		if i < hanging {
			leaf.Wrap = func(ctx context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
				<-ctx.Done()
				return storeapi.ErrSet(ctx.Err())
			}
		}
		serve(t, lis, func(s *grpc.Server) {
			storerpc.RegisterStore(s, leaf, storerpc.ServerConfig{})
			storerpc.RegisterInfo(s, storerpc.InfoConfig{Info: leaf.Info, Services: storerpc.Services{Store: true}})
		})
	}
	set, err := New(Config{
		Specs: []Spec{{Address: "members:" + port, Group: true}}, Interval: 10 * time.Second, DNSInterval: time.Hour, Hedge: true, FrameTimeout: frameTimeout,
		Logger: slog.New(slog.DiscardHandler), ExpectedTimeout: time.Hour, Resolver: loopbacks{},
	})
	require.NoError(t, err)
	set.Refresh(t.Context())
	e := set.Endpoints()[0]
	for range paceEnough {
		e.hedge.waited(time.Millisecond)
	}
	return set, e
}

func selectAll(t *testing.T, s storeapi.Store) storeapi.SeriesSet {
	return s.Select(t.Context(), &storeapi.Request{
		MaxTime: 10_000, Partial: storeapi.PartialWarn, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")},
	})
}

// Of two members over gRPC one hangs in every request for series. Each request is
// answered by the other, also where several run and the turns of the members mix.
func TestHedge_GroupWithAMemberThatHangs(t *testing.T) {
	set, e := groupOfTwo(t, 1, 0)
	all := fanout.New(func() []storeapi.Store { return []storeapi.Store{e} }, fanout.Config{})
	hedged := set.metrics.hedged.WithLabelValues(hedgeSecond)
	// Requests go to the other member only until the one that hangs is connected.
	for begin, n := time.Now(), 0; n < 4 || testutil.ToFloat64(hedged) == 0 && time.Since(begin) < 10*time.Second; n++ {
		var open []storeapi.SeriesSet
		for range 2 {
			open = append(open, selectAll(t, all))
		}
		for _, s := range open {
			require.True(t, s.Next(), "%v", s.Err())
			require.False(t, s.Next())
			require.NoError(t, s.Err())
			require.Empty(t, s.Warnings(), "the answer is complete")
			require.NoError(t, s.Close())
		}
	}
	require.Positive(t, testutil.ToFloat64(hedged))
	require.NoError(t, set.close())
}

// Where all members of a group hang, the answer names the group, once.
func TestHedge_GroupThatHangsIsNamed(t *testing.T) {
	set, e := groupOfTwo(t, 2, 100*time.Millisecond)
	s := selectAll(t, fanout.New(func() []storeapi.Store { return []storeapi.Store{e} }, fanout.Config{}))
	require.False(t, s.Next())
	require.NoError(t, s.Err())
	require.Len(t, s.Warnings(), 1)
	require.Contains(t, s.Warnings()[0].Source+s.Warnings()[0].Text, e.Name())
	require.NoError(t, s.Close())
	require.NoError(t, set.close())
}
