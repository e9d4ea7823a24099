package compact

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// errInterleaved is the refusal to take all samples of replicas that are not
// copies of each other.
var errInterleaved = errors.New("merging replicas one to one would mix their samples, because they were not taken at the same times: " +
	"set --deduplication.func=penalty, or take the replica label away")

const (
	// samplesPerChunk is how many samples a chunk that is encoded anew has.
	samplesPerChunk = 120
	// probedSamples is how many samples of replicas that overlap must have been
	// merged before their mixing is judged, and mixedShare the share of them that
	// exact copies do not reach: two copies leave a half, also when each lacks a
	// quarter of what the other one has.
	probedSamples = 2000
	mixedShare    = 0.8
)

// merger makes one series of the chunks of those with equal labels. It is used
// by one goroutine.
type merger struct {
	dedup dedup.Func
	// replicas says that the input comes from several replicas, whose samples
	// must not be mixed.
	replicas bool
	// in counts the samples of chunks that overlapped, kept those of the result.
	in, kept uint64

	// Memory that is kept for the next series.
	out   []chunks.Meta
	pair  pairMerger
	sink  floatSink
	arena []byte
}

func newMerger(dedupFunc string, replicas bool) *merger {
	if dedupFunc == dedupPenalty {
		return &merger{dedup: dedup.FuncPenalty, replicas: replicas}
	}
	return &merger{dedup: dedup.FuncChain, replicas: replicas}
}

// chunks merges each run of chunks that overlap and passes on the others as
// they are. The result is valid until the next call.
func (m *merger) chunks(metas []chunks.Meta) ([]chunks.Meta, error) {
	if ordered(metas) {
		return metas, nil
	}
	m.arena, m.out = m.arena[:0], m.out[:0]
	slices.SortStableFunc(metas, func(a, b chunks.Meta) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime))
	})
	metas = slices.CompactFunc(metas, func(a, b chunks.Meta) bool {
		if !same(a, b) {
			return false
		}
		m.in += uint64(b.Chunk.NumSamples())
		return true
	})
	for len(metas) > 0 {
		k, end := 1, metas[0].MaxTime
		for k < len(metas) && metas[k].MinTime <= end {
			end = max(end, metas[k].MaxTime)
			k++
		}
		if k == 1 {
			m.out = append(m.out, metas[0])
		} else if err := m.overlapping(metas[:k]); err != nil {
			return nil, err
		}
		metas = metas[k:]
	}
	return m.out, nil
}

// ordered says whether each chunk ends before the next one begins.
func ordered(metas []chunks.Meta) bool {
	for i := 1; i < len(metas); i++ {
		if metas[i].MinTime <= metas[i-1].MaxTime {
			return false
		}
	}
	return true
}

// same says whether two chunks are the same bytes.
func same(a, b chunks.Meta) bool {
	return a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && a.Chunk.Encoding() == b.Chunk.Encoding() &&
		bytes.Equal(a.Chunk.Bytes(), b.Chunk.Bytes())
}

// overlapping merges chunks that overlap and appends the result to m.out.
func (m *merger) overlapping(metas []chunks.Meta) error {
	floats := true
	in := 0
	for _, c := range metas {
		enc := c.Chunk.Encoding()
		if enc == aggr.Encoding {
			return fmt.Errorf("downsampled chunks overlap from %d on", c.MinTime)
		}
		floats = floats && enc == chunkenc.EncXOR
		in += c.Chunk.NumSamples()
	}
	m.in += uint64(in)
	m.sink.reset(m.arena)
	err := m.choose(metas, floats)
	if err != nil {
		return err
	}
	m.arena = m.sink.arena
	for _, c := range m.sink.out {
		m.kept += uint64(c.Chunk.NumSamples())
	}
	m.out = append(m.out, m.sink.out...)
	return m.judge(probedSamples)
}

// choose puts the samples of the result into the sink.
func (m *merger) choose(metas []chunks.Meta, floats bool) error {
	if floats && m.dedup == dedup.FuncPenalty {
		if r := dedup.Split(metas, spanOfMeta); len(r) == 2 {
			ok, err := m.pair.run(r[0], r[1], &m.sink)
			if ok || err != nil {
				m.sink.flush()
				return err
			}
			m.sink.reset(m.arena)
		}
	}
	it := m.samples(metas)
	if !floats {
		return m.encodeAny(it)
	}
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		t, v := it.At()
		m.sink.add(t, v, samplesPerChunk)
	}
	m.sink.flush()
	return it.Err()
}

func spanOfMeta(c chunks.Meta) (mint, maxt int64) { return c.MinTime, c.MaxTime }

// judge refuses to mix replicas, once enough samples were seen.
func (m *merger) judge(least uint64) error {
	if m.dedup == dedup.FuncChain && m.replicas && m.in >= least && float64(m.kept) > mixedShare*float64(m.in) {
		return errInterleaved
	}
	return nil
}

// samples merges the chunks as a query would: copies of one stream are joined,
// and between different streams the function chooses.
func (m *merger) samples(metas []chunks.Meta) chunkenc.Iterator {
	if m.dedup == dedup.FuncPenalty {
		groups := dedup.Copies(metas, dedup.Chunks[chunks.Meta]{
			Span: spanOfMeta, Samples: func(c chunks.Meta) chunkenc.Iterator { return c.Chunk.Iterator(nil) },
		})
		if groups != nil {
			return m.joinCopies(groups)
		}
	}
	return merge(m.dedup, metas)
}

func merge(f dedup.Func, metas []chunks.Meta) chunkenc.Iterator {
	var its []chunkenc.Iterator
	for _, r := range dedup.Split(metas, spanOfMeta) {
		its = append(its, aggr.RawIterator(r))
	}
	return f.Merge(its, false)
}

func (m *merger) joinCopies(groups [][]chunks.Meta) chunkenc.Iterator {
	streams := dedup.Split(groups, func(g []chunks.Meta) (mint, maxt int64) {
		mint, maxt = g[0].MinTime, g[0].MaxTime
		for _, c := range g[1:] {
			maxt = max(maxt, c.MaxTime)
		}
		return mint, maxt
	})
	its := make([]chunkenc.Iterator, len(streams))
	for i, stream := range streams {
		metas := slices.Concat(stream...)
		slices.SortStableFunc(metas, func(a, b chunks.Meta) int { return cmp.Compare(a.MinTime, b.MinTime) })
		its[i] = merge(dedup.FuncChain, metas)
	}
	return m.dedup.Merge(its, false)
}

// encodeAny writes samples of any type into chunks, a new one at each change.
func (m *merger) encodeAny(it chunkenc.Iterator) error {
	enc := storage.NewSeriesToChunkEncoder(&storage.SeriesEntry{
		SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator { return it },
	}).Iterator(nil)
	for enc.Next() {
		m.sink.out = append(m.sink.out, enc.At())
	}
	return enc.Err()
}
