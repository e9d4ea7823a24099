package probe

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	firstStep = 7_000_000
	steps     = 30
)

func newSet() *Set {
	return NewSet(Config{
		Name: "test", Interval: 15 * time.Second, Protocols: []string{"1.0", "2.0"}, PerKind: 2, LateSteps: 4,
	})
}

// server is what a correct server has: the text of each stored sample.
type server map[Sample]string

// run writes all steps. One write of six is neither stored nor acknowledged, and another
// one is stored and not acknowledged.
func run(set *Set, rnd *rand.Rand) (*Ledger, server, []Sample) {
	l, srv := NewLedger(set), server{}
	var acknowledged []Sample
	for step := int64(firstStep); step < firstStep+steps; step++ {
		for _, p := range set.Protocols() {
			due := set.Due(step, p)
			fate := rnd.IntN(6)
			for _, s := range due {
				if fate != 0 {
					srv[s] = set.Series(s.Series).text(s.Step)
				}
			}
			if fate > 1 {
				l.Acknowledged(due, time.UnixMilli(set.Time(step)))
				for _, s := range due {
					if s.Step >= firstStep {
						acknowledged = append(acknowledged, s)
					}
				}
			}
		}
	}
	return l, srv, acknowledged
}

// raw is the answer of a range selector.
func (srv server) raw(set *Set) []Found {
	by := map[int]*Found{}
	for _, s := range slices.SortedFunc(maps.Keys(srv), func(a, b Sample) int { return int(a.Step - b.Step) }) {
		if s.Step < firstStep {
			continue
		}
		if by[s.Series] == nil {
			by[s.Series] = &Found{Labels: maps.Clone(set.Series(s.Series).Labels)}
		}
		by[s.Series].Points = append(by[s.Series].Points, Point{Time: set.Time(s.Step), Text: srv[s]})
	}
	var out []Found
	for _, i := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[i])
	}
	return out
}

// points is the answer of a range query.
func (srv server) points(set *Set) (out []Found) {
	for _, f := range srv.raw(set) {
		one := Found{Labels: f.Labels}
		for step := int64(firstStep); step < firstStep+steps; step++ {
			text := ""
			for _, p := range f.Points {
				if at := set.Time(step); p.Time <= at && p.Time > at-5*60*1000 {
					text = p.Text
				}
			}
			if text != "" {
				one.Points = append(one.Points, Point{Time: set.Time(step), Text: text})
			}
		}
		out = append(out, one)
	}
	return out
}

func question() Question {
	return Question{From: firstStep, Until: firstStep + steps - 1, By: time.UnixMilli(1 << 50)}
}

// A correct server has no findings, whatever was not acknowledged; and each acknowledged
// sample that it loses or changes is found and named, by samples and by evaluations.
func TestLedger_FindsEachLostAndChangedSample(t *testing.T) {
	set := newSet()
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l, srv, acknowledged := run(set, rnd)
		q := question()
		r := l.Samples(q, srv.raw(set))
		require.Empty(t, r.Findings)
		require.NotZero(t, r.Checked)
		require.Empty(t, l.Evaluations(q, srv.points(set)).Findings)
		require.Empty(t, l.Listed(q, srv.raw(set)).Findings)
		for range 8 {
			s := acknowledged[rnd.IntN(len(acknowledged))]
			was := srv[s]
			delete(srv, s)
			require.Equal(t, []Finding{{
				Problem: Lost, Series: set.Series(s.Series).String(), Time: set.Time(s.Step), Details: "the answer lacks an acknowledged sample",
			}}, l.Samples(q, srv.raw(set)).Findings)
			require.True(t, l.Evaluations(q, srv.points(set)).Lacks())
			srv[s] = was + "1"
			for _, got := range []Result{l.Samples(q, srv.raw(set)), l.Evaluations(q, srv.points(set))} {
				require.NotEmpty(t, got.Findings)
				require.Equal(t, Wrong, got.Findings[0].Problem)
				require.Equal(t, set.Time(s.Step), got.Findings[0].Time)
			}
			srv[s] = was
		}
	}
}

// A ledger that begins empty, as after a restart, and one that has forgotten require
// nothing, and still find wrong values.
func TestLedger_ChecksTheValuesOfEarlierRuns(t *testing.T) {
	set := newSet()
	l, srv, acknowledged := run(set, rand.New(rand.NewPCG(1, 1)))
	l.Forget(firstStep + steps)
	for _, l := range []*Ledger{l, NewLedger(set)} {
		require.Empty(t, l.Samples(question(), nil).Findings)
		require.Empty(t, l.Evaluations(question(), srv.points(set)).Findings)
	}
	srv[acknowledged[0]] = "-1"
	require.Len(t, NewLedger(set).Samples(question(), srv.raw(set)).Findings, 1)
}

// A series that is there twice is a duplicate, and with replicas only if all labels are
// equal. Replicas hold the samples together.
func TestLedger_TellsReplicasFromDuplicates(t *testing.T) {
	set := newSet()
	l, srv, _ := run(set, rand.New(rand.NewPCG(2, 1)))
	found := srv.raw(set)
	again := Found{Labels: maps.Clone(found[3].Labels), Points: found[3].Points[len(found[3].Points)/2:]}
	again.Labels["replica"] = "b"
	found[3].Points = found[3].Points[:len(found[3].Points)/2]
	found = append(found, again)
	q := question()
	problems := func() (out []string) {
		for _, r := range []Result{l.Samples(q, found), l.Listed(q, found)} {
			for _, f := range r.Findings {
				out = append(out, f.Problem)
			}
		}
		return out
	}
	require.Equal(t, []string{Duplicate, Duplicate}, problems())
	q.Replicas = true
	require.Empty(t, problems())
	found = append(found, again)
	require.Equal(t, []string{Duplicate, Duplicate}, problems())
}

// A sample is required once it was acknowledged at or before the given time.
func TestLedger_RequiresNothingBeforeItsTime(t *testing.T) {
	set := newSet()
	l := NewLedger(set)
	due := set.Due(firstStep, "1.0")
	l.Acknowledged(due, time.UnixMilli(1000))
	q := question()
	q.By = time.UnixMilli(999)
	require.Empty(t, l.Samples(q, nil).Findings)
	q.By = time.UnixMilli(1000)
	require.NotEmpty(t, l.Samples(q, nil).Findings)
	require.NotEmpty(t, l.Evaluations(q, nil).Findings)
	require.NotEmpty(t, l.Listed(q, nil).Findings)
	require.NotEmpty(t, l.Values(q, nil).Findings)
	require.NotEmpty(t, l.Latest(q, nil).Findings)
	require.NotEmpty(t, l.Exemplars(q, nil).Findings)
}

// Each sample is due once, and late ones after newer ones; counters and histograms ascend
// but for their resets; histograms are valid.
func TestSet_Series(t *testing.T) {
	set := newSet()
	times, late, resets, special := map[Sample]int{}, 0, 0, 0
	for step := int64(firstStep); step < firstStep+200; step++ {
		for _, s := range set.Due(step, "2.0") {
			times[s]++
			one := set.Series(s.Series)
			if s.Step != step {
				late++
				require.Equal(t, Late, one.Kind)
				if s.Step >= firstStep {
					require.Equal(t, 1, times[Sample{Series: s.Series, Step: s.Step + 1}], "a newer sample was written before")
				}
			}
			switch f := one.Float(s.Step); one.Kind {
			case Counter:
				if f < one.Float(s.Step-1) {
					resets++
				}
			case Histogram:
				h := one.Histogram(s.Step)
				require.NoError(t, h.Validate())
				if before := one.Histogram(s.Step - 1); h.Count >= before.Count {
					require.GreaterOrEqual(t, h.ZeroCount, before.ZeroCount)
					require.GreaterOrEqual(t, h.Sum, before.Sum)
				}
			case Gauge:
				if f != f || f > 1e300 || f < -1e300 {
					special++
				}
			}
		}
	}
	for s, n := range times {
		require.Equal(t, 1, n, s)
	}
	require.Equal(t, 2*50, late)
	require.Equal(t, 2*5, resets)
	require.NotZero(t, special)
}
