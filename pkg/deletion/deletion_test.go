package deletion

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func request(t testing.TB, o Options) *Compiled {
	t.Helper()
	if o.MaxTime == 0 {
		o.MinTime, o.MaxTime = Earliest, Latest
	}
	c, err := New(o, now)
	require.NoError(t, err)
	return c
}

func TestNew_NeverDeletesTheFuture(t *testing.T) {
	c := request(t, Options{Selectors: []string{"up"}, Delay: time.Hour, Keep: time.Hour})
	require.Equal(t, now.UnixMilli(), c.MaxTime)
	require.Equal(t, now.Add(2*time.Hour), c.Expires)
}

func TestNew_RefusesWhatItCannotBound(t *testing.T) {
	for name, o := range map[string]Options{
		"no selector":       {},
		"empty selector":    {Selectors: []string{"{}"}},
		"matches all":       {Selectors: []string{`{a=~".*"}`}},
		"malformed":         {Selectors: []string{`up{`}},
		"malformed regexp":  {Selectors: []string{`{a=~"("}`}},
		"huge regexp":       {Selectors: []string{`{a=~"` + strings.Repeat("(a|b)", 1000) + `"}`}},
		"many selectors":    {Selectors: make([]string, 65)},
		"reversed":          {Selectors: []string{"up"}, MinTime: 5, MaxTime: 4},
		"begins in future":  {Selectors: []string{"up"}, MinTime: now.UnixMilli() + 1, MaxTime: now.UnixMilli() + 2},
		"negative delay":    {Selectors: []string{"up"}, Delay: -1},
		"long keep":         {Selectors: []string{"up"}, Keep: 100 * 365 * 24 * time.Hour},
		"tenant with slash": {Selectors: []string{"up"}, Tenant: "a/b"},
		"long details":      {Selectors: []string{"up"}, Details: strings.Repeat("x", 2000)},
	} {
		if o.MaxTime == 0 {
			o.MaxTime = Latest
		}
		_, err := New(o, now)
		require.Error(t, err, name)
	}
}

// TestScope_EqualsMatchingEachRequest compares the indexed scope with the definition: a
// series is deleted if a selector of the request matches all labels, of which the
// external ones override those of the series.
func TestScope_EqualsMatchingEachRequest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string { return string(rune('a' + rnd.IntN(3))) }
	for round := range 300 {
		var reqs []*Compiled
		for range 1 + rnd.IntN(6) {
			var parts []string
			for _, name := range []string{"__name__", "x", "y", "cluster", "tenant_id"} {
				if rnd.IntN(2) == 0 {
					op := []string{"=", "!=", "=~", "!~"}[rnd.IntN(4)]
					value := word()
					if rnd.IntN(5) == 0 {
						value = ""
					}
					parts = append(parts, fmt.Sprintf("%s%s%q", name, op, value))
				}
			}
			o := Options{Selectors: []string{"{" + strings.Join(parts, ",") + "}"}, MinTime: int64(rnd.IntN(100)), MaxTime: int64(100 + rnd.IntN(100))}
			if rnd.IntN(3) == 0 {
				o.Tenant = word()
			}
			if c, err := New(o, now); err == nil { // some selectors match everything
				reqs = append(reqs, c)
			}
		}
		ext := labels.FromStrings("cluster", word(), "tenant_id", word())
		lset := labels.FromStrings("__name__", word(), "x", word(), "cluster", word())
		target := Target{External: ext, MinTime: int64(rnd.IntN(300)), MaxTime: 300, Matchers: []*labels.Matcher{
			labels.MustNewMatcher(labels.MatchRegexp, "x", lset.Get("x")+"|b"),
		}}
		b := labels.NewBuilder(lset)
		ext.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		full := b.Labels()
		want := map[int64]bool{}
		for _, r := range reqs {
			all := true
			for _, m := range r.Matchers()[0] {
				all = all && m.Matches(full.Get(m.Name))
			}
			for ts := r.MinTime; all && ts <= r.MaxTime && r.MaxTime >= target.MinTime; ts++ {
				want[ts] = true
			}
		}
		got := map[int64]bool{}
		for _, d := range NewSet(reqs...).For(target).Deleted(lset) {
			for ts := d.Mint; ts <= d.Maxt; ts++ {
				got[ts] = true
			}
		}
		require.Equal(t, want, got, "round %d", round)
	}
}

func TestPoller_FollowsTheStates(t *testing.T) {
	b := bucket.NewMemory()
	p := NewPoller(b, nil, nil)
	require.False(t, p.Polled())
	c := request(t, Options{Selectors: []string{"up"}, Delay: time.Hour, Keep: time.Hour})
	other := request(t, Options{Selectors: []string{"down"}, Delay: time.Hour, Keep: time.Hour})
	require.NoError(t, Put(t.Context(), b, c))
	require.NoError(t, Put(t.Context(), b, other))
	poll := func() []*Entry {
		entries, err := p.Poll(t.Context())
		require.NoError(t, err)
		return entries
	}
	require.Len(t, poll(), 2)
	require.Len(t, p.Active(now).list(), 2)
	e := p.Entries()[0]
	require.Equal(t, Pending, e.StateAt(now))
	require.Equal(t, Applying, e.StateAt(now.Add(time.Hour)))
	require.Equal(t, Expired, e.StateAt(now.Add(3*time.Hour)))
	require.Empty(t, p.Active(now.Add(3*time.Hour)).list(), "expired without a poll")
	require.ErrorIs(t, Cancel(t.Context(), b, c.ID, "", now.Add(time.Hour)), ErrDecided)
	require.NoError(t, Cancel(t.Context(), b, c.ID, "a mistake", now))
	require.NoError(t, MarkDone(t.Context(), b, other.ID, "", now))
	require.NoError(t, PutNode(t.Context(), b, NodeReport{ID: other.ID, Node: "receive-0:10901/x", Time: now}))
	poll()
	require.Len(t, p.Active(now).list(), 1)
	got, err := Get(t.Context(), b, other.ID)
	require.NoError(t, err)
	require.Equal(t, Done, got.StateAt(now.Add(time.Hour)))
	nodes, err := Nodes(t.Context(), b, got)
	require.NoError(t, err)
	require.Equal(t, "receive-0:10901/x", nodes[0].Node)
}

// A request that was cancelled after the last complete listing deletes nothing, also when
// its delay has passed since.
func TestPhysical_NeedsListingAfterDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		var ids []ulid.ULID
		for _, selector := range []string{"up", "down"} {
			c, err := New(Options{Selectors: []string{selector}, MaxTime: Latest, Delay: time.Hour, Keep: time.Hour}, time.Now())
			require.NoError(t, err)
			require.NoError(t, Put(t.Context(), b, c))
			ids = append(ids, c.ID)
		}
		p := NewPoller(b, nil, nil)
		poll := func() {
			_, err := p.Poll(t.Context())
			require.NoError(t, err)
		}
		physical := func() (out []ulid.ULID) {
			for _, e := range p.Entries() {
				if e.Physical(time.Now()) {
					out = append(out, e.ID)
				}
			}
			return out
		}
		poll()
		time.Sleep(30 * time.Minute)
		require.NoError(t, Cancel(t.Context(), b, ids[0], "", time.Now()))
		time.Sleep(31 * time.Minute)
		require.Empty(t, physical(), "as of a listing from before the end of the delay")
		poll()
		require.Equal(t, ids[1:], physical())
	})
}

// TestPoller_BoundsHostileObjects fills the bucket with 10,000 requests and garbage.
func TestPoller_BoundsHostileObjects(t *testing.T) {
	mem := bucket.NewMemory()
	put := func(name, text string) {
		require.NoError(t, mem.Upload(t.Context(), name, strings.NewReader(text), int64(len(text))))
	}
	first := request(t, Options{Selectors: []string{"up"}, Keep: time.Hour})
	require.NoError(t, Put(t.Context(), mem, first))
	later := func(i int) ulid.ULID { return ulid.MustNew(ulid.Timestamp(now)+uint64(i)+1, nil) }
	put(nameOf(later(0), requestFile), "not json")
	put(nameOf(later(1), requestFile), `{"version":7}`)
	put(nameOf(later(2), requestFile), strings.Repeat(" ", maxSize+1))
	put(nameOf(later(3), cancelledFile), "{}")
	put(dir+"/garbage", "x")
	put(dir+"/"+later(4).String(), "x")
	for i := range maxRequests + 10 {
		r := first.Request
		r.ID = later(10 + i)
		r.Selectors = []string{fmt.Sprintf(`{__name__="m%d"}`, i)}
		c, err := compile(r)
		require.NoError(t, err)
		require.NoError(t, Put(t.Context(), mem, c))
	}
	f := buckettest.NewFaulty(mem, nil)
	p := NewPoller(f, nil, nil)
	entries, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.Equal(t, maxRequests-4, len(entries))
	require.Equal(t, maxRequests, f.Count("get"))
	_, err = p.Poll(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, f.Count("get"), maxRequests+1, "only the one without a request object is read again")
	require.Equal(t, 2, f.Count("list"))

	// A series is compared with the requests of its own name only.
	scope := p.Active(now).For(Target{MinTime: Earliest, MaxTime: Latest})
	require.NotEmpty(t, scope.Deleted(labels.FromStrings("__name__", "m5")))
	require.Empty(t, scope.Deleted(labels.FromStrings("__name__", "other")))
	require.Empty(t, scope.rest)
	require.Nil(t, p.Active(now).For(Target{MinTime: Earliest, MaxTime: Latest, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "other")}}))
}

func TestPoller_FailureKeepsTheLastRequests(t *testing.T) {
	mem := bucket.NewMemory()
	broken := false
	f := buckettest.NewFaulty(mem, func(buckettest.Op) buckettest.Fault {
		if broken {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	require.NoError(t, Put(t.Context(), mem, request(t, Options{Selectors: []string{"up"}, Keep: time.Hour})))
	p := NewPoller(f, nil, nil)
	_, err := p.Poll(t.Context())
	require.NoError(t, err)
	broken = true
	_, err = p.Poll(t.Context())
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.Len(t, p.Active(now).list(), 1)
}
