package compact

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
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

// merger makes one series of those with equal labels. It is used by one
// goroutine; the chunks of a series are valid until the next one.
type merger struct {
	dedup dedup.Func
	// replicas says that the input comes from several replicas, whose samples
	// must not be mixed.
	replicas bool
	// in and out count the samples of chunks that overlapped.
	in, out uint64

	enc   aggr.XOREncoder
	arena []byte
}

func newMerger(dedupFunc string, replicas bool) *merger {
	if dedupFunc == dedupPenalty {
		return &merger{dedup: dedup.FuncPenalty, replicas: replicas}
	}
	return &merger{dedup: dedup.FuncChain, replicas: replicas}
}

// merge implements storage.VerticalChunkSeriesMergeFunc.
func (m *merger) merge(series ...storage.ChunkSeries) storage.ChunkSeries {
	return &mergedSeries{merger: m, series: series}
}

type mergedSeries struct {
	*merger
	series []storage.ChunkSeries
}

func (s *mergedSeries) Labels() labels.Labels { return s.series[0].Labels() }

// Iterator returns the chunks of the series, those that overlap merged.
func (s *mergedSeries) Iterator(chunks.Iterator) chunks.Iterator {
	var metas []chunks.Meta
	for _, one := range s.series {
		it := one.Iterator(nil)
		for it.Next() {
			metas = append(metas, it.At())
		}
		if err := it.Err(); err != nil {
			return &chunkList{err: err}
		}
	}
	out, err := s.chunks(metas)
	return &chunkList{list: out, err: err}
}

// chunkList implements chunks.Iterator.
type chunkList struct {
	list []chunks.Meta
	pos  int
	err  error
}

func (l *chunkList) Next() bool {
	if l.err != nil || l.pos >= len(l.list) {
		return false
	}
	l.pos++
	return true
}

func (l *chunkList) At() chunks.Meta { return l.list[l.pos-1] }
func (l *chunkList) Err() error      { return l.err }

// chunks merges each run of chunks that overlap and passes on the others as
// they are.
func (m *merger) chunks(metas []chunks.Meta) ([]chunks.Meta, error) {
	m.arena = m.arena[:0]
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
	var out []chunks.Meta
	for len(metas) > 0 {
		k, end := 1, metas[0].MaxTime
		for k < len(metas) && metas[k].MinTime <= end {
			end = max(end, metas[k].MaxTime)
			k++
		}
		if k == 1 {
			out = append(out, metas[0])
		} else {
			merged, err := m.overlapping(metas[:k])
			if err != nil {
				return nil, err
			}
			out = append(out, merged...)
		}
		metas = metas[k:]
	}
	return out, nil
}

// same says whether two chunks are the same bytes.
func same(a, b chunks.Meta) bool {
	return a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && a.Chunk.Encoding() == b.Chunk.Encoding() &&
		bytes.Equal(a.Chunk.Bytes(), b.Chunk.Bytes())
}

// overlapping merges chunks that overlap.
func (m *merger) overlapping(metas []chunks.Meta) ([]chunks.Meta, error) {
	cs := make([]storeapi.Chunk, len(metas))
	floats := true
	in := 0
	for i, c := range metas {
		enc := c.Chunk.Encoding()
		if enc == aggr.Encoding {
			return nil, fmt.Errorf("downsampled chunks overlap from %d to %d", c.MinTime, metas[i-min(i, 1)].MaxTime)
		}
		floats = floats && enc == chunkenc.EncXOR
		cs[i] = storeapi.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Raw: storeapi.Data{Encoding: enc, Bytes: c.Chunk.Bytes()}}
		in += c.Chunk.NumSamples()
	}
	it := m.samples(cs)
	encode := encodeAny
	if floats {
		encode = m.encodeFloats
	}
	out, err := encode(it)
	if err != nil {
		return nil, err
	}
	m.in += uint64(in)
	for _, c := range out {
		m.out += uint64(c.Chunk.NumSamples())
	}
	return out, m.judge(probedSamples)
}

// judge refuses to mix replicas, once enough samples were seen.
func (m *merger) judge(least uint64) error {
	if m.dedup == dedup.FuncChain && m.replicas && m.in >= least && float64(m.out) > mixedShare*float64(m.in) {
		return errInterleaved
	}
	return nil
}

func span(c storeapi.Chunk) (mint, maxt int64) { return c.MinTime, c.MaxTime }

func raw(cs []storeapi.Chunk) chunkenc.Iterator {
	return aggr.SeriesIterator(cs, []storeapi.Aggregate{storeapi.AggregateRaw})
}

// samples merges the chunks as a query would: copies of one stream are joined,
// and between different streams the function chooses.
func (m *merger) samples(cs []storeapi.Chunk) chunkenc.Iterator {
	if m.dedup == dedup.FuncPenalty {
		groups := dedup.Copies(cs, dedup.Chunks[storeapi.Chunk]{
			Span: span, Samples: func(c storeapi.Chunk) chunkenc.Iterator { return raw([]storeapi.Chunk{c}) },
		})
		if groups != nil {
			return m.joinCopies(groups)
		}
	}
	return merge(m.dedup, cs)
}

func merge(f dedup.Func, cs []storeapi.Chunk) chunkenc.Iterator {
	var its []chunkenc.Iterator
	for _, r := range dedup.Split(cs, span) {
		its = append(its, raw(r))
	}
	return f.Merge(its, false)
}

func (m *merger) joinCopies(groups [][]storeapi.Chunk) chunkenc.Iterator {
	streams := dedup.Split(groups, func(g []storeapi.Chunk) (mint, maxt int64) {
		mint, maxt = g[0].MinTime, g[0].MaxTime
		for _, c := range g[1:] {
			maxt = max(maxt, c.MaxTime)
		}
		return mint, maxt
	})
	its := make([]chunkenc.Iterator, len(streams))
	for i, stream := range streams {
		cs := slices.Concat(stream...)
		slices.SortStableFunc(cs, func(a, b storeapi.Chunk) int { return cmp.Compare(a.MinTime, b.MinTime) })
		its[i] = merge(dedup.FuncChain, cs)
	}
	return m.dedup.Merge(its, false)
}

// encodeFloats writes float samples into chunks.
func (m *merger) encodeFloats(it chunkenc.Iterator) ([]chunks.Meta, error) {
	var out []chunks.Meta
	var mint, maxt int64
	flush := func() error {
		start := len(m.arena)
		m.arena = m.enc.Finish()
		c, err := chunkenc.FromData(chunkenc.EncXOR, m.arena[start:len(m.arena):len(m.arena)])
		out = append(out, chunks.Meta{MinTime: mint, MaxTime: maxt, Chunk: c})
		return err
	}
	m.enc.Reset(m.arena)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		t, v := it.At()
		if m.enc.Len() == samplesPerChunk {
			if err := flush(); err != nil {
				return nil, err
			}
			m.enc.Reset(m.arena)
		}
		if m.enc.Len() == 0 {
			mint = t
		}
		maxt = t
		m.enc.Append(t, v)
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if m.enc.Len() == 0 {
		return out, nil
	}
	return out, flush()
}

// encodeAny writes samples of any type into chunks, a new one at each change.
func encodeAny(it chunkenc.Iterator) ([]chunks.Meta, error) {
	enc := storage.NewSeriesToChunkEncoder(&storage.SeriesEntry{
		SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator { return it },
	}).Iterator(nil)
	var out []chunks.Meta
	for enc.Next() {
		out = append(out, enc.At())
	}
	return out, enc.Err()
}
