package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func mathFloat(bits uint64) float64 { return math.Float64frombits(bits) }

// sample is a sample of any kind; v is the bits of a float or the hash of a
// histogram.
type sample struct {
	t    int64
	kind chunkenc.ValueType
	v    uint64
}

// samplesOf reads an iterator within [mint, maxt].
func samplesOf(t testing.TB, it chunkenc.Iterator, mint, maxt int64, to []sample) []sample {
	t.Helper()
	var fh *histogram.FloatHistogram
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		s := sample{t: it.AtT(), kind: vt}
		if s.t < mint || s.t > maxt {
			continue
		}
		if vt == chunkenc.ValFloat {
			_, v := it.At()
			s.v = math.Float64bits(v)
		} else {
			_, fh = it.AtFloatHistogram(fh)
			s.v = hashHistogram(fh)
		}
		to = append(to, s)
	}
	require.NoError(t, it.Err())
	return to
}

func hashHistogram(h *histogram.FloatHistogram) uint64 {
	var b []byte
	for _, fs := range [][]float64{{h.Sum, h.Count, h.ZeroCount, h.ZeroThreshold, float64(h.Schema)}, h.PositiveBuckets, h.NegativeBuckets, h.CustomValues} {
		for _, f := range fs {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
		}
	}
	return xxhash.Sum64(fmt.Append(b, h.PositiveSpans, h.NegativeSpans))
}

func sortSamples(s []sample) {
	slices.SortFunc(s, func(a, b sample) int { return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.v, b.v)) })
}

// oracle answers a request from the blocks on disk with Prometheus's own
// querier.
type oracle struct {
	t      testing.TB
	blocks []oracleBlock
}

type oracleBlock struct {
	*tsdb.Block
	ext labels.Labels
}

func newOracle(t testing.TB, blocks []testBlock) *oracle {
	o := &oracle{t: t}
	for _, b := range blocks {
		tb, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), b.dir, nil, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, tb.Close()) })
		o.blocks = append(o.blocks, oracleBlock{Block: tb, ext: b.meta.ExternalLabels()})
	}
	return o
}

func (o *oracle) querier(b oracleBlock, r *storeapi.Request) (storage.Querier, []*labels.Matcher, bool) {
	ms, ok := storeapi.MatchExternal(b.ext, r.Matchers)
	meta := b.Meta()
	if !ok || len(ms) == 0 || meta.MinTime > r.MaxTime || meta.MaxTime <= r.MinTime {
		return nil, nil, false
	}
	q, err := tsdb.NewBlockQuerier(b.Block, r.MinTime, r.MaxTime)
	require.NoError(o.t, err)
	return q, ms, true
}

func (b oracleBlock) outside(lset labels.Labels, drop []string) labels.Labels {
	lb := labels.NewBuilder(lset)
	b.ext.Range(func(l labels.Label) { lb.Set(l.Name, l.Value) })
	lb.Del(drop...)
	return lb.Labels()
}

// query returns the samples by label set; those of equal sets are joined.
func (o *oracle) query(ctx context.Context, r *storeapi.Request) map[string][]sample {
	out := map[string][]sample{}
	for _, b := range o.blocks {
		q, ms, ok := o.querier(b, r)
		if !ok {
			continue
		}
		set := q.Select(ctx, true, nil, ms...)
		for set.Next() {
			key := b.outside(set.At().Labels(), r.WithoutReplicaLabels).String()
			got := samplesOf(o.t, set.At().Iterator(nil), r.MinTime, r.MaxTime, nil)
			if len(got) > 0 {
				out[key] = append(out[key], got...)
			}
		}
		require.NoError(o.t, set.Err())
		require.NoError(o.t, q.Close())
	}
	for _, s := range out {
		sortSamples(s)
	}
	return out
}

// labelValues returns the values of a label; with name "" the label names.
func (o *oracle) labelValues(ctx context.Context, name string, r *storeapi.Request) []string {
	seen := map[string]struct{}{}
	for _, b := range o.blocks {
		q, ms, ok := o.querier(b, r)
		if !ok {
			continue
		}
		set := q.Select(ctx, false, &storage.SelectHints{Start: math.MinInt64, End: math.MaxInt64, Func: "series"}, ms...)
		for set.Next() {
			b.outside(set.At().Labels(), r.WithoutReplicaLabels).Range(func(l labels.Label) {
				switch name {
				case "":
					seen[l.Name] = struct{}{}
				case l.Name:
					seen[l.Value] = struct{}{}
				}
			})
		}
		require.NoError(o.t, set.Err())
		require.NoError(o.t, q.Close())
	}
	out := []string{}
	for v := range seen {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// collect reads a set like oracle.query, and checks its order and its chunks.
func collect(t testing.TB, set storeapi.SeriesSet, r *storeapi.Request) map[string][]sample {
	t.Helper()
	out := map[string][]sample{}
	last := labels.EmptyLabels()
	for set.Next() {
		s := set.At()
		require.LessOrEqual(t, labels.Compare(last, s.Labels), 0, "series out of order")
		last = s.Labels
		key := s.Labels.String()
		for _, c := range s.Chunks {
			require.True(t, c.MinTime <= r.MaxTime && c.MaxTime >= r.MinTime, "chunk outside of the range")
			require.True(t, r.Columns || c.Raw.Encoding != columnchunk.Encoding, "columns were not asked for")
			if got := samplesOf(t, aggr.DataIterator(c.Raw), r.MinTime, r.MaxTime, nil); len(got) > 0 {
				out[key] = append(out[key], got...)
			}
		}
	}
	require.NoError(t, set.Err())
	require.Empty(t, set.Warnings())
	require.NoError(t, set.Close())
	for _, s := range out {
		sortSamples(s)
	}
	return out
}

// randomMatchers makes 1 to 4 matchers, of which one at least is not on an
// external label.
func randomMatchers(rng *rand.Rand) []*labels.Matcher {
	names := []string{"__name__", "job", "pod", "A", "cluster", "replica", "zone", "ünï", "path", "n", "le", "absent"}
	values := []string{
		"up", "http_requests_total", "api", "node", "pod-3", "upper", "inside", "c1", "r1", "x", "eu", "ö", "a|b",
		"7", "0.1", "", "none", strings.Repeat("long", 100),
	}
	patterns := []string{
		".*", ".+", "", "up|a|http_requests_total", "api.*", ".*api.*", "pod-(1|2|3)", "pod-[0-9]+", "(?i:API)", "[a-m].*",
		"1.*", ".*9", "eu|", "|up", "c1|c2", "/.*", "long.*long", ".", "(up|node).*|x",
	}
	for {
		var ms []*labels.Matcher
		inside := false
		for range 1 + rng.IntN(4) {
			name := names[rng.IntN(len(names))]
			inside = inside || (name != "cluster" && name != "replica")
			typ := labels.MatchType(rng.IntN(4))
			v := values[rng.IntN(len(values))]
			if typ == labels.MatchRegexp || typ == labels.MatchNotRegexp {
				v = patterns[rng.IntN(len(patterns))]
			}
			ms = append(ms, labels.MustNewMatcher(typ, name, v))
		}
		if inside {
			return ms
		}
	}
}

func matchersString(ms []*labels.Matcher) string {
	var parts []string
	for _, m := range ms {
		parts = append(parts, m.String())
	}
	return "{" + strings.Join(parts, ",") + "}"
}
