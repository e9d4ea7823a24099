package dedup

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// ErrNotCopies is the refusal of a Merger with FuncChain to merge sources that
// are not copies of each other: taking every sample would mix two counters.
var ErrNotCopies = errorid.Sentinel(errorid.BlockNotCopies, "replicas are no copies of each other, their times or values differ")

const (
	// probedSamples is how many samples of overlapping sources are merged before
	// the first check that they are copies.
	probedSamples = 2000
	// mixedShare is the share of samples kept that exact copies do not reach: two
	// copies keep a half, and less than mixedShare even when each lacks a quarter
	// of the samples of the other.
	mixedShare = 0.8
	// differentShare is the share of samples with equal times whose values may
	// differ between copies.
	differentShare = 0.2
)

// Merger merges the chunks of a series, one series after the other, and encodes
// the result into chunks. It keeps its memory between series and is used by one
// goroutine.
//
// Chunks come from numbered sources. Every sample of a source counts; between
// sources the function of the Merger chooses. With FuncChain it refuses sources
// that are not copies of each other.
type Merger struct {
	f Func
	Counts
	// later leaves the check that sources are copies to the caller.
	later bool

	// Memory that is kept for the next series.
	out      []chunks.Meta
	sorted   []sourced
	sources  [][]chunks.Meta
	merge    coverage
	replicas []Replica
	sink     chunkSink
	arena    []byte
}

// Counts are the samples that a Merger has merged. Those of several Mergers, each of
// which merged some of the series, can be added.
type Counts struct {
	// in counts the samples of chunks that overlapped, kept those of the result.
	in, kept uint64
	// mixed counts the samples of several sources that FuncChain has merged.
	mixed struct {
		in, kept uint64
		differ   differ
	}
}

// Add adds the counts of another Merger.
func (c *Counts) Add(o Counts) {
	c.in, c.kept = c.in+o.in, c.kept+o.kept
	c.mixed.in, c.mixed.kept = c.mixed.in+o.mixed.in, c.mixed.kept+o.mixed.kept
	c.mixed.differ.equal += o.mixed.differ.equal
	c.mixed.differ.different += o.mixed.differ.different
}

// sourced is a chunk with the number of its source.
type sourced struct {
	chunks.Meta
	source int
}

// NewMerger returns a merger that chooses between sources by f.
func NewMerger(f Func) *Merger { return &Merger{f: f} }

// NewPartMerger returns a merger of some of the series of a merge. It does not check
// that sources are copies: the caller adds the counts of all parts, in an order that
// does not depend on the number of mergers, and checks these.
func NewPartMerger(f Func) *Merger { return &Merger{f: f, later: true} }

// Take returns the counts since the last call of Take.
func (m *Merger) Take() Counts {
	c := m.Counts
	m.Counts = Counts{}
	return c
}

// Chunks merges chunks that overlap and returns the other ones unchanged, in ascending
// order of time. FuncCoverage merges the chunks of several sources together: what a
// source has around a hole decides about it, also where chunks do not overlap. sources
// holds the source of each of metas; a lower number is preferred. The result is valid
// until the next call.
func (m *Merger) Chunks(metas []chunks.Meta, sources []int) ([]chunks.Meta, error) {
	together := m.f == FuncCoverage && mergeable(metas) && slices.ContainsFunc(sources, func(s int) bool { return s != sources[0] })
	if !together && ordered(metas) {
		return metas, nil
	}
	m.arena, m.out, m.sorted = m.arena[:0], m.out[:0], m.sorted[:0]
	for i, c := range metas {
		m.sorted = append(m.sorted, sourced{c, sources[i]})
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
	together = together && slices.ContainsFunc(all, func(c sourced) bool { return c.source != all[0].source })
	for len(all) > 0 {
		k, end := 1, all[0].MaxTime
		for k < len(all) && (together || all[k].MinTime <= end) {
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

// Dropped is the number of samples of all calls that are not in the results.
func (c *Counts) Dropped() uint64 { return c.in - c.kept }

// Check returns ErrNotCopies if FuncChain has merged sources that are not copies.
// Chunks of a Merger of NewMerger checks as well, once it has merged enough samples.
func (c *Counts) Check() error { return c.check(1) }

// Probe is Check once enough samples are merged, and nil before.
func (c *Counts) Probe() error { return c.check(probedSamples) }

// check is Check for at least so many merged samples.
func (c *Counts) check(least uint64) error {
	if c.mixed.in < least {
		return nil
	}
	d := c.mixed.differ
	if float64(c.mixed.kept) > mixedShare*float64(c.mixed.in) ||
		float64(d.different) > differentShare*float64(d.equal+d.different) {
		return ErrNotCopies
	}
	return nil
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

// mergeable says whether all chunks have samples.
func mergeable(metas []chunks.Meta) bool {
	return !slices.ContainsFunc(metas, func(c chunks.Meta) bool { return !chunkenc.IsValidEncoding(c.Chunk.Encoding()) })
}

// same says whether two chunks are the same bytes.
func same(a, b chunks.Meta) bool {
	return a.MinTime == b.MinTime && a.MaxTime == b.MaxTime && a.Chunk.Encoding() == b.Chunk.Encoding() &&
		bytes.Equal(a.Chunk.Bytes(), b.Chunk.Bytes())
}

// overlapping merges chunks that overlap and appends the result to m.out.
func (m *Merger) overlapping(run []sourced) error {
	floats := true
	in := uint64(0)
	for _, c := range run {
		enc := c.Chunk.Encoding()
		if !chunkenc.IsValidEncoding(enc) {
			return fmt.Errorf("chunks of encoding %d overlap from %d on: only chunks of samples can be merged", enc, c.MinTime)
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
	if m.f == FuncChain && len(sources) > 1 {
		m.mixed.in, m.mixed.kept = m.mixed.in+in, m.mixed.kept+kept
	}
	if m.later {
		return nil
	}
	return m.Probe()
}

// bySource divides a run into the chunks of each source, in the order of the
// numbers of the sources.
func (m *Merger) bySource(run []sourced) [][]chunks.Meta {
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

// choose adds the samples of the result to the sink.
func (m *Merger) choose(sources [][]chunks.Meta, floats bool) error {
	overlaps := func(metas []chunks.Meta) bool { return !ordered(metas) }
	if floats && m.f == FuncCoverage && len(sources) > 1 && !slices.ContainsFunc(sources, overlaps) {
		return m.runs(sources)
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

// runs merges sources of floats, each without overlaps, by FuncCoverage. It does not
// decode a chunk that is not needed, and passes on a chunk of which every sample is
// taken.
func (m *Merger) runs(sources [][]chunks.Meta) error {
	m.replicas = m.replicas[:0]
	for _, metas := range sources {
		m.replicas = append(m.replicas, Replica{Chunks: metaChunks(metas), Interval: interval(metas)})
	}
	m.merge.reset(m.replicas, Options{Bounds: everything()}, false)
	for r, ok := m.merge.next(); ok; r, ok = m.merge.next() {
		m.sink.take(&sources[r.rep][r.chunk], &r)
	}
	m.sink.flush()
	return m.merge.err()
}

// samples merges the sources as a query does.
func (m *Merger) samples(sources [][]chunks.Meta) chunkenc.Iterator {
	if m.f == FuncChain && len(sources) > 1 {
		var all []Replica
		for _, metas := range sources {
			all = append(all, layers(metas)...)
		}
		return unionCounted(all, &m.mixed.differ)
	}
	replicas := make([]Replica, len(sources))
	for i, metas := range sources {
		replicas[i] = Replica{Samples: Union(layers(metas), everything()), Interval: interval(metas)}
	}
	return m.f.Merge(replicas, Options{Bounds: everything()})
}

// layers divides the chunks of a source into layers without overlaps.
func layers(metas []chunks.Meta) []Replica {
	var out []Replica
	for _, l := range Split(metas, func(c chunks.Meta) (mint, maxt int64) { return c.MinTime, c.MaxTime }, 0) {
		out = append(out, Replica{Samples: newSequence(l), Interval: interval(l)})
	}
	return out
}

// encodeAny encodes samples of any type into chunks. Each change of the type
// begins a new chunk.
func (m *Merger) encodeAny(it chunkenc.Iterator) error {
	enc := storage.NewSeriesToChunkEncoder(&storage.SeriesEntry{
		SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator { return it },
	}).Iterator(nil)
	for enc.Next() {
		m.sink.out = append(m.sink.out, enc.At())
	}
	return enc.Err()
}
