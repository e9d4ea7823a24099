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
var errInterleaved = errors.New("merging replicas one to one would mix their samples, because their times or values differ: " +
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
	// differentShare is the share of samples with equal times that may have
	// different values before replicas are no copies.
	differentShare = 0.2
)

// merger makes one series of the chunks of those with equal labels. It is used
// by one goroutine.
//
// Chunks come from numbered sources: blocks whose external labels are equal, but
// for those that tell the nodes of a ring apart, are one source. All samples of
// a source count; between sources the deduplication function chooses.
type merger struct {
	dedup dedup.Func
	// in counts the samples of chunks that overlapped, kept those of the result.
	in, kept uint64
	// mixed judges the merging of sources one to one.
	mixed struct {
		in, kept uint64
		differ   dedup.Differ
	}

	// Memory that is kept for the next series.
	out     []chunks.Meta
	sorted  []sourced
	sources [][]chunks.Meta
	runs    dedup.Runs
	sink    floatSink
	arena   []byte
}

// sourced is a chunk with the number of its source.
type sourced struct {
	chunks.Meta
	source int
}

func newMerger(dedupFunc string) *merger {
	if dedupFunc == dedupPenalty {
		return &merger{dedup: dedup.FuncPenalty}
	}
	return &merger{dedup: dedup.FuncChain}
}

// chunks merges each run of chunks that overlap and passes on the others as
// they are. origins are the sources of metas. The result is valid until the next
// call.
func (m *merger) chunks(metas []chunks.Meta, origins []int) ([]chunks.Meta, error) {
	if ordered(metas) {
		return metas, nil
	}
	m.arena, m.out, m.sorted = m.arena[:0], m.out[:0], m.sorted[:0]
	for i, c := range metas {
		m.sorted = append(m.sorted, sourced{c, origins[i]})
	}
	slices.SortStableFunc(m.sorted, func(a, b sourced) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), cmp.Compare(a.source, b.source))
	})
	all := slices.CompactFunc(m.sorted, func(a, b sourced) bool {
		if !same(a.Meta, b.Meta) {
			return false
		}
		n := uint64(b.Chunk.NumSamples())
		m.in += n
		if a.source != b.source {
			m.mixed.in += n
		}
		return true
	})
	for len(all) > 0 {
		k, end := 1, all[0].MaxTime
		for k < len(all) && all[k].MinTime <= end {
			end = max(end, all[k].MaxTime)
			k++
		}
		if k == 1 {
			m.out = append(m.out, all[0].Meta)
		} else if err := m.overlapping(all[:k]); err != nil {
			return nil, err
		}
		all = all[k:]
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
func (m *merger) overlapping(run []sourced) error {
	floats := true
	in := uint64(0)
	for _, c := range run {
		enc := c.Chunk.Encoding()
		if enc == aggr.Encoding {
			return fmt.Errorf("downsampled chunks overlap from %d on", c.MinTime)
		}
		floats = floats && enc == chunkenc.EncXOR
		in += uint64(c.Chunk.NumSamples())
	}
	m.sink.reset(m.arena)
	sources := m.bySource(run)
	if err := m.choose(sources, floats); err != nil {
		return err
	}
	m.arena = m.sink.arena
	kept := uint64(0)
	for _, c := range m.sink.out {
		kept += uint64(c.Chunk.NumSamples())
	}
	m.in, m.kept = m.in+in, m.kept+kept
	m.out = append(m.out, m.sink.out...)
	if m.dedup == dedup.FuncChain && len(sources) > 1 {
		m.mixed.in, m.mixed.kept = m.mixed.in+in, m.mixed.kept+kept
	}
	return m.judge(probedSamples)
}

// bySource divides a run, in the order of the sources' numbers.
func (m *merger) bySource(run []sourced) [][]chunks.Meta {
	slices.SortStableFunc(run, func(a, b sourced) int { return cmp.Compare(a.source, b.source) })
	out := m.sources[:0]
	for i, c := range run {
		if i == 0 || c.source != run[i-1].source {
			if len(out) < cap(out) {
				out = out[:len(out)+1]
				out[len(out)-1] = out[len(out)-1][:0]
			} else {
				out = append(out, nil)
			}
		}
		out[len(out)-1] = append(out[len(out)-1], c.Meta)
	}
	m.sources = out
	return out
}

// choose puts the samples of the result into the sink.
func (m *merger) choose(sources [][]chunks.Meta, floats bool) error {
	if floats && m.dedup == dedup.FuncPenalty && len(sources) == 2 && ordered(sources[0]) && ordered(sources[1]) {
		return m.pair(sources[0], sources[1])
	}
	it := m.samples(sources)
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

// pair merges two sources of floats, neither of which overlaps itself. A chunk
// that is not needed is not decoded, and one of which every sample is taken is
// passed on as it is.
func (m *merger) pair(a, b []chunks.Meta) error {
	sources := [2][]chunks.Meta{a, b}
	m.runs.Reset(metaChunks(a), metaChunks(b), [2]int64{interval(a), interval(b)})
	for r, ok := m.runs.Next(); ok; r, ok = m.runs.Next() {
		m.sink.take(&sources[r.Replica][r.Chunk], r.Samples, r.From, r.To)
	}
	m.sink.flush()
	return m.runs.Err()
}

// metaChunks are chunks of floats.
type metaChunks []chunks.Meta

func (c metaChunks) Len() int { return len(c) }

func (c metaChunks) Chunk(i int) (mint, maxt int64, payload []byte) {
	return c[i].MinTime, c[i].MaxTime, c[i].Chunk.Bytes()
}

func spanOfMeta(c chunks.Meta) (mint, maxt int64) { return c.MinTime, c.MaxTime }

func interval(metas []chunks.Meta) int64 {
	return dedup.Interval(len(metas), func(i int) (mint, maxt int64, samples int) {
		return metas[i].MinTime, metas[i].MaxTime, metas[i].Chunk.NumSamples()
	})
}

// judge refuses to mix replicas, once enough samples were seen.
func (m *merger) judge(least uint64) error {
	if m.mixed.in >= least && float64(m.mixed.kept) > mixedShare*float64(m.mixed.in) {
		return errInterleaved
	}
	d := m.mixed.differ
	if m.mixed.in >= least && float64(d.Different) > differentShare*float64(d.Equal+d.Different) {
		return errInterleaved
	}
	return nil
}

// samples merges the sources as a query would.
func (m *merger) samples(sources [][]chunks.Meta) chunkenc.Iterator {
	if m.dedup == dedup.FuncChain && len(sources) > 1 {
		var all []dedup.Replica
		for _, metas := range sources {
			all = append(all, layers(metas)...)
		}
		return dedup.UnionCounted(all, &m.mixed.differ)
	}
	replicas := make([]dedup.Replica, len(sources))
	for i, metas := range sources {
		replicas[i] = dedup.Replica{Samples: dedup.Union(layers(metas)), Interval: interval(metas)}
	}
	return m.dedup.Merge(replicas, false)
}

// layers divides the chunks of a source into parts that do not overlap
// themselves.
func layers(metas []chunks.Meta) []dedup.Replica {
	var out []dedup.Replica
	for _, l := range dedup.Split(metas, spanOfMeta) {
		out = append(out, dedup.Replica{Samples: aggr.RawIterator(l), Interval: interval(l)})
	}
	return out
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
