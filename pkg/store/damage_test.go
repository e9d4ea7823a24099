package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func object(t testing.TB, bkt bucket.Bucket, name string) []byte {
	t.Helper()
	rc, err := bkt.Get(t.Context(), name)
	require.NoError(t, err)
	defer rc.Close()
	b, err := io.ReadAll(rc)
	require.NoError(t, err)
	return b
}

func put(t testing.TB, bkt bucket.Bucket, name string, b []byte) {
	t.Helper()
	require.NoError(t, bkt.Upload(t.Context(), name, bytes.NewReader(b), int64(len(b))))
}

// readPartial reads a set that may end with warnings.
func readPartial(t testing.TB, set storeapi.SeriesSet, r *storeapi.Request) (map[string][]sample, []string) {
	t.Helper()
	silent := &quietSet{SeriesSet: set}
	out := collect(t, silent, r)
	return out, set.Warnings().Strings()
}

// quietSet hides the warnings of a set.
type quietSet struct{ storeapi.SeriesSet }

func (quietSet) Warnings() storeapi.Warnings { return nil }

// TestSelect_DamagedObjectsGiveNoWrongSamples changes the objects of one of two blocks in many ways. Every series
// of the sound block must be there. The samples of the damaged one must be right or
// absent, and a warning must report absent ones.
func TestSelect_DamagedObjectsGiveNoWrongSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	bkt := bucket.NewMemory()
	sound := writeBlock(t, rng, 0, 2*hour, 20, map[string]string{"block": "sound"})
	bad := writeBlock(t, rng, 0, 2*hour, 20, map[string]string{"block": "bad"})
	sound.upload(t, bkt)
	bad.upload(t, bkt)
	o := newOracle(t, []testBlock{sound, bad})
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "n", ".+")}}
	want := o.query(t.Context(), r)
	index, segment := bad.meta.ULID.String()+"/index", bad.meta.ULID.String()+"/chunks/000001"

	check := func(name string) {
		t.Helper()
		g := newGateway(t, bkt)
		for round := range 2 {
			got, warnings := readPartial(t, g.Select(t.Context(), r), r)
			missing := 0
			for k, samples := range want {
				if len(got[k]) == len(samples) {
					require.Equal(t, samples, got[k], name)
					continue
				}
				require.Contains(t, k, `block="bad"`, name)
				for _, s := range got[k] { // chunks may be missing
					require.Contains(t, samples, s, name)
				}
				missing++
			}
			for k := range got {
				require.Contains(t, want, k, name)
			}
			if missing > 0 {
				require.NotEmpty(t, warnings, "%s, round %d", name, round)
				require.Contains(t, warnings[0], bad.meta.ULID.String(), name)
			}
			abort := *r
			abort.Partial = storeapi.PartialAbort
			set := g.Select(t.Context(), &abort)
			for set.Next() {
			}
			if missing > 0 {
				require.ErrorIs(t, set.Err(), storeapi.ErrPartial, name)
			} else if len(warnings) == 0 {
				require.NoError(t, set.Err(), name)
			}
			require.NoError(t, set.Close())
			names, ws, err := g.LabelNames(t.Context(), r)
			require.NoError(t, err)
			require.True(t, len(ws) > 0 || missing == len(names) || len(names) > 0)
		}
	}
	for _, name := range []string{index, segment} {
		orig := object(t, bkt, name)
		for i := range 150 {
			b := slices.Clone(orig)
			pos := rng.IntN(len(b))
			b[pos] ^= 1 << rng.IntN(8)
			put(t, bkt, name, b)
			check(fmt.Sprintf("bit of byte %d of %s flipped, case %d", pos, name, i))
		}
		for _, n := range []int{0, 1, 4, 5, 52, 56, 57, 100, len(orig) / 2, len(orig) - 60, len(orig) - 52, len(orig) - 4, len(orig) - 1} {
			put(t, bkt, name, orig[:n])
			check(fmt.Sprintf("%s cut to %d bytes", name, n))
		}
		put(t, bkt, name, bytes.Repeat([]byte("garbage"), 1000))
		check(name + " replaced")
		require.NoError(t, bkt.Delete(t.Context(), name))
		check(name + " gone")
		put(t, bkt, name, orig)
		check(name + " restored")
	}
}

// TestSelect_DamagedItemCostsOnlyItself damages one chunk, and one series, of a block.
func TestSelect_DamagedItemCostsOnlyItself(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 1, metrics: 20, instances: 10, codes: 1, samples: 480}
	s.fill(t, bkt)
	id := ulid.MustNew(1, nil).String()
	for _, c := range []struct {
		object                  string
		series, chunks, damaged int
	}{
		{"chunks/000001", 200, 799, 1},
		{"chunks/000001", 200, 798, 2},
		{"index", 199, 796, 1},
	} {
		name := id + "/" + c.object
		orig := object(t, bkt, name)
		b := slices.Clone(orig)
		for i := range c.damaged {
			b[len(b)/3-i*20_000] ^= 1 // in the series section of the index
		}
		put(t, bkt, name, b)
		for _, g := range []*Gateway{newGateway(t, bkt), newGateway(t, bkt, "--store.disk-cache-size=0", "--index-cache-size=0")} {
			r := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
			set := g.Select(t.Context(), r)
			series, chunks := 0, 0
			for set.Next() {
				series++
				chunks += len(set.At().Chunks)
			}
			require.NoError(t, set.Err())
			require.Equal(t, []int{c.series, c.chunks}, []int{series, chunks}, c.object)
			ws := set.Warnings().Strings()
			require.Len(t, ws, min(c.damaged, 2), "%v", ws)
			require.Contains(t, ws[0], id)
			if c.damaged > 1 {
				require.Contains(t, ws[1], "2 damaged chunks are missing")
			}
			require.NoError(t, set.Close())

			r.Partial = storeapi.PartialAbort
			set = g.Select(t.Context(), r)
			for set.Next() {
			}
			require.ErrorIs(t, set.Err(), storeapi.ErrPartial)
			require.NoError(t, set.Close())
			require.Zero(t, g.budget.Used())
		}
		put(t, bkt, name, orig)
	}
}

// TestGateway_QuarantinesBlockWithDamagedIndex follows one block with an unusable index: the second request
// does not read it again, other blocks may replace it, and it comes back.
func TestGateway_QuarantinesBlockWithDamagedIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	bkt := bucket.NewMemory()
	ext := map[string]string{"cluster": "c"}
	source := writeBlock(t, rng, 0, 2*hour, 10, ext)
	source.upload(t, bkt)
	compacted := writeBlock(t, rng, 0, 2*hour, 10, ext)
	compacted.meta.Compaction.Sources = append(compacted.meta.Compaction.Sources, source.meta.ULID)
	compacted.upload(t, bkt)
	name := compacted.meta.ULID.String() + "/index"
	orig := object(t, bkt, name)
	put(t, bkt, name, orig[:len(orig)-7])

	cb := &countingBucket{Reader: bkt}
	g := newGateway(t, cb)
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "n", ".+")}}
	_, ws := readPartial(t, g.Select(t.Context(), r), r)
	require.Len(t, ws, 1)
	require.Contains(t, ws[0], compacted.meta.ULID.String())
	cb.take()
	_, ws = readPartial(t, g.Select(t.Context(), r), r)
	require.Len(t, ws, 1)
	require.Contains(t, ws[0], "damaged")
	index, _, _ := cb.take()
	require.Zero(t, index)

	// Its source still exists, but the other source does not.
	require.NoError(t, g.sync(t.Context()))
	_, ws = readPartial(t, g.Select(t.Context(), r), r)
	require.Len(t, ws, 1)

	compacted.meta.Compaction.Sources = source.meta.Compaction.Sources
	b, err := compacted.meta.Encode()
	require.NoError(t, err)
	put(t, bkt, compacted.meta.ULID.String()+"/meta.json", append(b, '\n'))
	require.NoError(t, g.sync(t.Context()))
	got, ws := readPartial(t, g.Select(t.Context(), r), r)
	require.Empty(t, ws)
	require.Equal(t, newOracle(t, []testBlock{source}).query(t.Context(), r), got)
}

// TestGateway_ReadsDamagedIndexAgain flips a bit in the first answer about each index. The
// first request is complete, and no block is quarantined.
func TestGateway_ReadsDamagedIndexAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	bkt, blocks := randomBucket(t, rng, 4)
	var mu sync.Mutex
	flipped := map[string]bool{}
	faulty := buckettest.NewFaulty(bkt, func(op buckettest.Op) buckettest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind != "get_range" || !strings.HasSuffix(op.Name, "/index") || flipped[op.Name] {
			return buckettest.Fault{}
		}
		flipped[op.Name] = true
		return buckettest.Fault{Flip: 1}
	})
	g := newGateway(t, faulty)
	r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "n", ".+")}}
	got, ws := readPartial(t, g.Select(t.Context(), r), r)
	require.Empty(t, ws)
	require.Len(t, flipped, len(blocks))
	require.Equal(t, newOracle(t, blocks).query(t.Context(), r), got)
}

// TestSelect_FailedReadIsAWarning makes reads fail in each stage: the answer has a warning, and
// the next one is complete.
func TestSelect_FailedReadIsAWarning(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	bkt, blocks := randomBucket(t, rng, 10)
	cb := &countingBucket{Reader: bkt}
	r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "n", ".+")}}
	want := newOracle(t, blocks).query(t.Context(), r)
	down := errors.New("the bucket is down")
	for _, part := range []string{"/index", "/chunks/"} {
		g := newGateway(t, cb, "--index-cache-size=0")
		cb.setFail(func(name string) error {
			if strings.Contains(name, part) {
				return down
			}
			return nil
		})
		_, ws := readPartial(t, g.Select(t.Context(), r), r)
		require.Len(t, ws, len(blocks))
		require.Contains(t, ws[0], down.Error())
		_, ws, err := labelNames(t, g, r)
		require.NoError(t, err)
		if part == "/index" {
			require.Len(t, ws, len(blocks))
		}
		cb.setFail(nil)
		got, ws := readPartial(t, g.Select(t.Context(), r), r)
		require.Empty(t, ws)
		require.Equal(t, want, got)
	}
}

func labelNames(t testing.TB, g *Gateway, r *storeapi.Request) ([]string, []string, error) {
	names, ws, err := g.LabelNames(t.Context(), r)
	return names, ws.Strings(), err
}
