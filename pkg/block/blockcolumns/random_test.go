package blockcolumns_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// randomFloats returns the next value of a series of one of the kinds that metrics have.
func randomFloats(rng *rand.Rand) func() float64 {
	level, unit := float64(rng.IntN(1000)), pick(rng, 1.0, 10, 1000, 1e9)
	special := []float64{math.Float64frombits(value.StaleNaN), math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e-300, -math.MaxFloat64}
	switch rng.IntN(5) {
	case 0:
		return func() float64 { return level / unit }
	case 1:
		return rng.NormFloat64
	case 2:
		return func() float64 { return math.Float64frombits(rng.Uint64()) }
	case 3:
		return func() float64 { return pick(rng, append(special, level)...) }
	}
	return func() float64 {
		if rng.IntN(30) == 0 {
			level = 0
		}
		level += float64(rng.IntN(100))
		return level / unit
	}
}

// randomChunks are those of a series of floats: with gaps, and some of one sample.
func randomChunks(t testing.TB, rng *rand.Rand) (out []chunks.Meta) {
	next, at := randomFloats(rng), rng.Int64N(1<<41)-1<<40
	for range 1 + rng.IntN(3) {
		var c chunkenc.Chunk = chunkenc.NewXORChunk()
		st := int64(0)
		if rng.IntN(3) == 0 {
			c, st = chunkenc.NewXOR2Chunk(), pick[int64](rng, 0, 0, 1)
		}
		app, err := c.Appender()
		require.NoError(t, err)
		meta := chunks.Meta{Chunk: c, MinTime: at}
		for range pick(rng, 1, 1, 2, 10, 120) {
			meta.MaxTime = at
			app.Append(st*(at-5), at, next())
			if at += 15_000 + rng.Int64N(10); rng.IntN(40) == 0 {
				at += rng.Int64N(1 << 30)
			}
		}
		out = append(out, meta)
	}
	return out
}

// histogram is a chunk of one native histogram.
func histogram(t testing.TB, at int64) chunks.Meta {
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	_, _, _, err = app.AppendHistogram(nil, 0, at, tsdbutil.GenerateTestHistogram(3), true)
	require.NoError(t, err)
	return chunks.Meta{Chunk: c, MinTime: at, MaxTime: at}
}

// schema says which labels the series of a metric have: few names, each with few values, of
// which some are the beginnings of others.
type schema map[string][]string

func randomSchema(rng *rand.Rand) schema {
	s := schema{}
	names := []string{"instance", "job", "pod", "namespace", "le", "Zone", "mode", "_", "größe"}
	for _, i := range rng.Perm(len(names))[:rng.IntN(6)] {
		values := []string{"", "a", "aa", "ab", "a\x01", "b", "\x01", "\x7f", "ä", "\xff", "\xff\xff", "1", "10", "+Inf"}
		if rng.IntN(3) == 0 {
			values = []string{fmt.Sprint("only ", i)}
		}
		rng.Shuffle(len(values), func(i, j int) { values[i], values[j] = values[j], values[i] })
		s[names[i]] = values[:1+rng.IntN(len(values))]
	}
	return s
}

// randomBlock is a block of a few metrics, of which each may have each peculiarity.
func randomBlock(rng *rand.Rand) (out []blocktest.Series) {
	var t testing.T
	seen := map[string]bool{}
	for m := range 1 + rng.IntN(5) {
		s, kind := randomSchema(rng), rng.IntN(12)
		for range pick(rng, 1, 2, 10, 60, 300, 700) {
			b := labels.NewBuilder(labels.FromStrings(model.MetricNameLabel, fmt.Sprintf("metric_%d", m)))
			for name, values := range s {
				b.Set(name, pick(rng, values...))
			}
			chks := randomChunks(&t, rng)
			switch {
			case kind == 0:
				b.Del(model.MetricNameLabel)
			case kind == 1 && rng.IntN(20) == 0:
				b.Set("nul", "x\x00y")
			case kind == 2:
				chks = []chunks.Meta{histogram(&t, 7)}
			case kind == 3 && rng.IntN(20) == 0:
				chks = append(chks, histogram(&t, chks[len(chks)-1].MaxTime+1))
			}
			if lset := b.Labels(); !lset.IsEmpty() && !seen[lset.String()] {
				seen[lset.String()] = true
				out = append(out, blocktest.Series{Labels: lset, Chunks: chks})
			}
		}
	}
	return out
}

func TestObject_HasRandomBlocks(t *testing.T) {
	segments, encodings, leftOut := 0, map[chunkenc.Encoding]int{}, 0
	for seed := range uint64(20) {
		series := randomBlock(newRand(seed))
		o := objectOf(t, series)
		requireSame(t, series, o)
		for _, name := range names(series) {
			m, _, err := o.metric(name)
			require.NoError(t, err)
			segments = max(segments, len(m.Segments))
			odd := slices.ContainsFunc(wanted(series, name), func(a answer) bool {
				return a.lset.Has("nul") || slices.ContainsFunc(a.chunks, func(c blockcolumns.Chunk) bool { return c.Encoding == chunkenc.EncHistogram })
			})
			require.Equal(t, odd, m.LeftOut, "seed %d, %s", seed, name)
			if m.LeftOut {
				leftOut++
				continue
			}
			found, err := o.find(name)
			require.NoError(t, err)
			for _, a := range found {
				for _, c := range a.chunks {
					encodings[c.Encoding]++
				}
			}
		}
	}
	// The blocks had what they are made for.
	require.Greater(t, segments, 1)
	require.Greater(t, leftOut, 3)
	require.Greater(t, encodings[columnchunk.Encoding], 200)
	require.Greater(t, encodings[chunkenc.EncXOR], 100)
	require.Greater(t, encodings[chunkenc.EncXOR2], 100)
}

// randomMatcher returns a matcher on a label that series may have or not.
func randomMatcher(rng *rand.Rand, s schema) *labels.Matcher {
	name := pick(rng, "absent", model.MetricNameLabel)
	var of []string
	if keys := sortedKeys(s); len(keys) > 0 && rng.IntN(15) > 0 {
		name = pick(rng, keys...)
		of = s[name]
	}
	value := func() string { return pick(rng, append(slices.Clone(of), "", "a", "none", "metric_0")...) }
	typ := pick(rng, labels.MatchEqual, labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchRegexp, labels.MatchNotRegexp)
	v := value()
	if typ == labels.MatchRegexp || typ == labels.MatchNotRegexp {
		v = pick(rng, v, v+"|"+value(), v+"|"+value()+"|"+value(), "("+v+"|"+value()+")b?", v+".*", ".+", "", "(?i)"+v, "[ab]", "a[ab1]|b")
	}
	m, err := labels.NewMatcher(typ, name, v)
	if err != nil { // a value that is no regular expression
		return labels.MustNewMatcher(labels.MatchEqual, name, v)
	}
	return m
}

func sortedKeys(s schema) (out []string) {
	for name := range s {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// list writes the labels of series.
func list(answers []answer) string {
	var b strings.Builder
	for _, a := range answers {
		fmt.Fprintln(&b, a.lset)
	}
	return b.String()
}

func TestSearch_FindsWhatMatches(t *testing.T) {
	some, skipped := 0, 0
	for seed := range uint64(40) {
		rng := newRand(1000 + seed)
		s := randomSchema(rng)
		for len(s) < 2 {
			s = randomSchema(rng)
		}
		seen := map[string]bool{}
		var series []blocktest.Series
		for range 1500 {
			b := labels.NewBuilder(labels.FromStrings(model.MetricNameLabel, "metric_0"))
			for _, name := range sortedKeys(s) {
				b.Set(name, pick(rng, s[name]...))
			}
			if lset := b.Labels(); !seen[lset.String()] {
				seen[lset.String()] = true
				series = append(series, blocktest.Series{Labels: lset, Chunks: randomChunks(t, rng)[:1]})
			}
		}
		o := objectOf(t, series)
		m, _, err := o.metric("metric_0")
		require.NoError(t, err)
		for range 200 {
			ms := make([]*labels.Matcher, 1+rng.IntN(3))
			for i := range ms {
				ms[i] = randomMatcher(rng, s)
			}
			found, err := o.find("metric_0", ms...)
			require.NoError(t, err)
			require.Equal(t, list(wanted(series, "metric_0", ms...)), list(found), "%s", ms)
			if len(found) > 0 {
				some++
			}
			skipped += len(m.Segments) - len(m.Candidates(ms))
		}
	}
	require.Greater(t, some, 500)
	require.Greater(t, skipped, 500)
}
