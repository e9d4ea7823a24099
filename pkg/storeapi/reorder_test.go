package storeapi

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// oddNames sort before, between and behind each other and the labels that are
// added and removed.
var oddNames = []string{"__name__", "A", "a", "b", "m", "n", "o", "z"}

func randomSets(rnd *rand.Rand, n int) []Series {
	seen := map[string]bool{}
	var out []Series
	for range n {
		b := labels.NewBuilder(labels.EmptyLabels())
		for _, name := range oddNames {
			if rnd.Intn(3) == 0 {
				b.Set(name, fmt.Sprint(rnd.Intn(2)))
			}
		}
		l := b.Labels()
		if l.IsEmpty() || seen[l.String()] {
			continue
		}
		seen[l.String()] = true
		out = append(out, Series{Labels: l, Chunks: []Chunk{{MinTime: int64(len(out))}}})
	}
	slices.SortFunc(out, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
	return out
}

// rewriteSimply is the second way to compute a label set of the answer.
func rewriteSimply(l, ext labels.Labels, drop []string) labels.Labels {
	b := labels.NewBuilder(l)
	ext.Range(func(e labels.Label) { b.Set(e.Name, e.Value) })
	return b.Del(drop...).Labels()
}

// TestReorder_EqualsSort computes the order a second way: with a sort.
func TestReorder_EqualsSort(t *testing.T) {
	rnd := rand.New(rand.NewSource(7))
	late, tight := 0, 0
	for range 4000 {
		in := randomSets(rnd, 1+rnd.Intn(40))
		ext, drop := randomRewrite(rnd)
		order := randomOrder(rnd)
		got, sorted := collect(Reorder{External: ext, Drop: drop, Order: order}.Apply(NewSliceSet(in)), order)
		if !sorted {
			t.Fatalf("not in order: ext %s drop %v order %v\n%s", ext, drop, order, strings.Join(got, "\n"))
		}
		want := wanted(in, ext, drop)
		if lost := len(want) - len(got); lost > 0 {
			late++ // series that had only replica labels and came too late
			bare := func(s string) bool {
				var chunk int
				_, err := fmt.Sscan(s[strings.LastIndexByte(s, ' '):], &chunk)
				require.NoError(t, err)
				i := slices.IndexFunc(in, func(s Series) bool { return s.Chunks[0].MinTime == int64(chunk) })
				return labels.NewBuilder(in[i].Labels).Del(namesOf(ext)...).Del(drop...).Del(order.without...).Labels().IsEmpty()
			}
			want, got = slices.DeleteFunc(want, bare), slices.DeleteFunc(got, bare)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("ext %s drop %v\nwant %v\ngot  %v", ext, drop, want, got)
		}
		r := Reorder{External: ext, Drop: drop, Order: order}
		prefixes, err := r.HasLatePrefixes(NewSliceSet(in))
		require.NoError(t, err)
		if prefixes && !r.MayHoldBack() {
			t.Fatalf("ext %s drop %v: late prefixes where there can be none", ext, drop)
		}
		r.NoPrefixes = true
		short, sorted := collect(r.Apply(NewSliceSet(in)), order)
		if !sorted || prefixes == (len(short) == len(in)) {
			t.Fatalf("ext %s drop %v: late prefixes %v, but the short way has %d of %d", ext, drop, prefixes, len(short), len(in))
		}
		if !prefixes {
			tight++
		}
	}
	require.Greater(t, tight, 1000)
	require.Greater(t, late, 10)
}

func randomRewrite(rnd *rand.Rand) (ext labels.Labels, drop []string) {
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, name := range append([]string{"0", "mm", "zz"}, oddNames...) {
		switch rnd.Intn(8) {
		case 0:
			b.Set(name, "ext")
		case 1:
			drop = append(drop, name)
		}
	}
	return b.Labels(), drop
}

// randomOrder leaves out names that series carry, external labels, and both.
func randomOrder(rnd *rand.Rand) Order {
	var without []string
	for _, name := range append([]string{"0", "mm", "zz"}, oddNames...) {
		if rnd.Intn(6) == 0 {
			without = append(without, name)
		}
	}
	if rnd.Intn(3) == 0 {
		without = nil
	}
	return NewOrder(without)
}

func collect(set SeriesSet, order Order) (out []string, sorted bool) {
	var last labels.Labels
	sorted = true
	for set.Next() {
		s := set.At()
		sorted = sorted && order.Compare(last, s.Labels) <= 0
		last = s.Labels
		out = append(out, fmt.Sprint(s.Labels, " ", s.Chunks[0].MinTime))
	}
	return out, sorted
}

func wanted(in []Series, ext labels.Labels, drop []string) (out []string) {
	for _, s := range in {
		out = append(out, fmt.Sprint(rewriteSimply(s.Labels, ext, drop), " ", s.Chunks[0].MinTime))
	}
	return out
}

// countingSet counts the series that were read from it.
type countingSet struct {
	SeriesSet
	read int
}

func (c *countingSet) Next() bool {
	ok := c.SeriesSet.Next()
	if ok {
		c.read++
	}
	return ok
}

func TestReorder_HoldsBackLittle(t *testing.T) {
	var in []Series
	for i := range 1000 {
		job := fmt.Sprintf("job-%04d", i/10)
		in = append(in, Series{Labels: labels.FromStrings("__name__", "up", "instance", fmt.Sprintf("i-%04d", i), "job", job, "replica", "a", "zone", "z")})
		in = append(in, Series{Labels: labels.FromStrings("__name__", "up", "instance", fmt.Sprintf("i-%04d", i), "job", job, "replica", "b", "zone", "z")})
	}
	ahead := func(open func(SeriesSet) SeriesSet) int {
		below := &countingSet{SeriesSet: NewSliceSet(in)}
		set, most, n := open(below), 0, 0
		for set.Next() {
			n++
			most = max(most, below.read-n)
		}
		require.Equal(t, len(in), n)
		return most
	}
	// External labels before, inside and behind the labels of the series.
	require.Zero(t, ahead(func(s SeriesSet) SeriesSet {
		return Reorder{External: labels.FromStrings("cluster", "eu"), Drop: nil}.Apply(s)
	}))
	require.Equal(t, 1, ahead(func(s SeriesSet) SeriesSet {
		return Reorder{External: labels.FromStrings("zz", "eu"), Drop: nil}.Apply(s)
	}))
	// An external replica label is free, whatever its place.
	require.Zero(t, ahead(func(s SeriesSet) SeriesSet {
		own := func(name string) bool { return name == "replica" }
		return Reorder{External: labels.FromStrings("cluster", "eu", "prometheus_replica", "a"), Drop: []string{"prometheus_replica"}, Own: own}.Apply(s)
	}))
	// A replica label of the series holds back the group before it.
	require.LessOrEqual(t, ahead(func(s SeriesSet) SeriesSet {
		return Reorder{External: labels.FromStrings("cluster", "eu"), Drop: []string{"replica"}, NoPrefixes: true}.Apply(s)
	}), 3)
	// With an external label behind all others no prefix can come late.
	require.LessOrEqual(t, ahead(func(s SeriesSet) SeriesSet {
		return Reorder{External: labels.FromStrings("zz", "eu"), Drop: []string{"replica"}}.Apply(s)
	}), 3)
}

// Series that become one because an external label hides theirs are reported, those
// that lose a replica label or only have a label hidden are not.
func TestReorder_WarnsOfCollisions(t *testing.T) {
	ext := labels.FromStrings("cluster", "c", "replica", "r")
	for _, c := range []struct {
		drop   []string
		series []labels.Labels
		warns  bool
	}{
		{nil, []labels.Labels{labels.FromStrings("__name__", "m", "cluster", "a"), labels.FromStrings("__name__", "m", "cluster", "b")}, true},
		{nil, []labels.Labels{labels.FromStrings("__name__", "m"), labels.FromStrings("__name__", "m", "cluster", "c")}, true},
		{nil, []labels.Labels{labels.FromStrings("__name__", "m", "a", "1", "cluster", "b"), labels.FromStrings("__name__", "m", "a", "1", "x", "1"),
			labels.FromStrings("__name__", "m", "cluster", "a", "x", "1"), labels.FromStrings("__name__", "m", "cluster", "b", "x", "1")}, true},
		{[]string{"replica"}, []labels.Labels{labels.FromStrings("__name__", "m", "cluster", "a"), labels.FromStrings("__name__", "m", "cluster", "b")}, true},
		{[]string{"replica"}, []labels.Labels{labels.FromStrings("__name__", "m", "replica", "a"), labels.FromStrings("__name__", "m", "replica", "b")}, false},
		{[]string{"replica"}, []labels.Labels{labels.FromStrings("__name__", "m", "cluster", "a", "replica", "a"), labels.FromStrings("__name__", "m", "cluster", "a", "replica", "b")}, false},
		{nil, []labels.Labels{labels.FromStrings("__name__", "m", "cluster", "a"), labels.FromStrings("__name__", "n", "cluster", "b")}, false},
	} {
		var in []Series
		for _, ls := range c.series {
			in = append(in, Series{Labels: ls})
		}
		set := Reorder{External: ext, Drop: c.drop}.Apply(NewSliceSet(in))
		n := 0
		for set.Next() {
			n++
		}
		require.NoError(t, set.Err())
		require.Equal(t, len(in), n)
		ws := set.Warnings()
		require.Equal(t, c.warns, len(ws) == 1, "%v %v: %v", c.drop, c.series, ws)
		if c.warns {
			require.Contains(t, ws[0].Text, `their label "cluster" is hidden by the external label of that name`)
		}
	}
}

func namesOf(ls labels.Labels) (out []string) {
	ls.Range(func(l labels.Label) { out = append(out, l.Name) })
	return out
}
