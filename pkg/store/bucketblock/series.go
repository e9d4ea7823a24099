package bucketblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
)

const (
	// seriesAlign is the unit of series references.
	seriesAlign = 16
	// seriesGuess is the number of bytes that are read of a series entry when the
	// next one is not known to begin earlier, and meta.json has no largest size.
	seriesGuess = 2 << 10
	// seriesLargest bounds the bytes read at first for one entry.
	seriesLargest = 64 << 10
)

// chunkMeta is one chunk of a series, from its index entry.
type chunkMeta struct {
	mint, maxt int64
	ref        uint64 // segment << 32 | offset
}

// seriesItem is a decoded series of a batch.
type seriesItem struct {
	lset   labels.Labels
	lo, hi int // its chunks within the batch
	// common is the number of its first labels that it shares with the series before
	// it, and size that of its labels, both in the block.
	common, size int
}

// seriesBatch is some consecutive series and their chunks in the time range.
type seriesBatch struct {
	items  []seriesItem
	chunks []chunkMeta
}

// readSeries reads and decodes the series with the references into the batch, whose
// memory it uses again.
func (r *reader) readSeries(ctx context.Context, refs []uint32, out *seriesBatch) error {
	pages := r.b.env.Pages.Open(r.index, r.q.Account)
	defer pages.Recycle()
	ranges, err := r.seriesRanges(refs)
	if err != nil {
		return err
	}
	if err := r.loadSeries(ctx, pages, ranges); err != nil {
		return err
	}
	if err := r.completeSeries(ctx, pages, ranges); err != nil {
		return err
	}
	clear(out.items) // labels would stay in memory
	out.items = slices.Grow(out.items[:0], len(refs))
	out.chunks = slices.Grow(out.chunks[:0], r.expectChunks(len(refs)))
	for _, rg := range ranges {
		if rg == (pagecache.Range{}) {
			continue // damaged
		}
		b, err := pages.Bytes(rg)
		if err != nil {
			return err
		}
		lo := len(out.chunks)
		if err := r.addSeries(out, b, rg.Off); err != nil {
			out.chunks = out.chunks[:lo]
			if err := r.leaveOut(PartSeries, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// expectChunks estimates the number of chunks that so many series have in the time
// range.
func (r *reader) expectChunks(series int) int {
	const most = 1 << 18
	m := r.b.meta
	if m.Stats.NumSeries == 0 || m.MaxTime <= m.MinTime {
		return series
	}
	from, to := max(r.q.MinTime, m.MinTime), min(r.q.MaxTime, m.MaxTime)
	share := min(1, max(0, float64(to-from)/float64(m.MaxTime-m.MinTime)))
	each := float64(m.Stats.NumChunks)/float64(m.Stats.NumSeries)*share + 1
	return int(min(float64(series)*each, most))
}

// meanSeries is about how many bytes the entry of a series takes.
func (r *reader) meanSeries() int64 {
	start, end := r.h.Series()
	if n := r.b.meta.Stats.NumSeries; n > 0 && n < 1<<40 {
		return max((end-start)/int64(n), seriesAlign)
	}
	return 256
}

func (r *reader) loadSeries(ctx context.Context, pages *pagecache.Pages, ranges []pagecache.Range) error {
	counts, err := pages.Load(ctx, ranges)
	r.countSeries(counts)
	return err
}

func (r *reader) countSeries(c pagecache.Counts) {
	r.stats.SeriesFetches += c.Requests
	r.stats.SeriesBytes += c.Bytes
	r.countRead(c)
}

// countRead counts what readings of all kinds have in common.
func (r *reader) countRead(c pagecache.Counts) {
	r.stats.BytesFetched += c.Bytes
	r.stats.PagesTouched += c.Hits + c.Misses
	r.stats.PagesFetched += c.Misses + c.Ahead
}

// seriesRanges guesses the bytes of each entry; it ends before the next one. The result
// is valid until the next call.
func (r *reader) seriesRanges(refs []uint32) ([]pagecache.Range, error) {
	start, end := r.h.Series()
	guess := min(max(seriesGuess, 4*r.meanSeries()), seriesLargest)
	if n := r.b.meta.Thanos.IndexStats.SeriesMaxSize; n > 0 {
		guess = min(n+16, seriesLargest)
	}
	r.entries = slices.Grow(r.entries[:0], len(refs))[:len(refs)]
	out := r.entries
	for i, ref := range refs {
		off := int64(ref) * seriesAlign
		if off < start || off >= end {
			return nil, fmt.Errorf("%w: series at %d lies outside the series section", errDamaged, off)
		}
		stop := min(off+guess, end)
		if i+1 < len(refs) {
			stop = min(stop, int64(refs[i+1])*seriesAlign)
		}
		out[i] = pagecache.Range{Off: off, End: stop}
	}
	return out, nil
}

// completeSeries sets the ranges to the true ends of the entries and loads the bytes
// that the guess did not cover.
func (r *reader) completeSeries(ctx context.Context, pages *pagecache.Pages, ranges []pagecache.Range) error {
	_, end := r.h.Series()
	var more []pagecache.Range
	for i, rg := range ranges {
		head, err := pages.Bytes(pagecache.Range{Off: rg.Off, End: min(rg.Off+binary.MaxVarintLen32, rg.End)})
		if err != nil {
			return err
		}
		n, k := binary.Uvarint(head)
		stop := rg.Off + int64(k) + int64(n) + crc32.Size
		if k <= 0 || n > uint64(end-rg.Off) || stop > end {
			ranges[i] = pagecache.Range{}
			if err := r.leaveOut(PartSeries, fmt.Errorf("%w: series at %d has no valid length", errDamaged, rg.Off)); err != nil {
				return err
			}
			continue
		}
		ranges[i].End = stop
		if stop > rg.End && !pages.Loaded(ranges[i]) {
			more = append(more, ranges[i])
		}
	}
	if len(more) == 0 {
		return nil
	}
	return r.loadSeries(ctx, pages, more)
}

// addSeries decodes one entry and adds the series to the batch if it is wanted.
func (r *reader) addSeries(out *seriesBatch, b []byte, off int64) error {
	lo := len(out.chunks)
	var err error
	r.symbols, out.chunks, err = decodeSeries(b, r.q, r.symbols[:0], out.chunks)
	if err != nil {
		return fmt.Errorf("series at %d: %w", off, err)
	}
	r.stats.SeriesTouched++
	r.stats.SeriesFetched++
	if len(out.chunks) == lo {
		return nil // nothing in the time range
	}
	sortPairs(r.symbols)
	lset, ok, err := r.labels(r.symbols)
	if err != nil {
		return fmt.Errorf("series at %d: %w", off, err)
	}
	if !ok || (r.q.Keep != nil && !r.q.Keep(lset)) {
		out.chunks = out.chunks[:lo]
		return nil
	}
	common, ordered := compareSymbols(r.last, r.symbols)
	if !ordered {
		return fmt.Errorf("%w: series at %d is not in order", errDamaged, off)
	}
	r.last = append(r.last[:0], r.symbols...)
	out.items = append(out.items, seriesItem{lset: lset, lo: lo, hi: len(out.chunks), common: common, size: len(r.symbols) / 2})
	return nil
}

// sortPairs sorts pairs of name and value by name, as all but very old writers
// have done. Symbols are numbered in the order of their strings.
func sortPairs(syms []uint32) {
	for i := 2; i < len(syms); i += 2 {
		for k := i; k > 0 && syms[k] < syms[k-2]; k -= 2 {
			syms[k], syms[k-2] = syms[k-2], syms[k]
			syms[k+1], syms[k-1] = syms[k-1], syms[k+1]
		}
	}
}

// compareSymbols returns how many labels two series have in common at their
// beginning, and whether a sorts before b.
func compareSymbols(a, b []uint32) (common int, less bool) {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i / 2, a[i] < b[i]
		}
	}
	return n / 2, len(a) < len(b)
}

// decodeSeries decodes an entry: it appends the symbols of its labels, and the
// chunks that have a time in common with the query.
//
//	length uvarint
//	labels uvarint | labels × (name uvarint, value uvarint)
//	chunks uvarint | first: mint varint, maxt−mint uvarint, ref uvarint
//	               | others: mint−previous maxt uvarint, maxt−mint uvarint, ref−previous ref varint
//	CRC32 u32 big-endian over all after length
func decodeSeries(b []byte, q *Query, syms []uint32, chks []chunkMeta) ([]uint32, []chunkMeta, error) {
	bad := func(detail string) ([]uint32, []chunkMeta, error) {
		return syms, chks, fmt.Errorf("%w: %s", errDamaged, detail)
	}
	n, k := binary.Uvarint(b)
	if k <= 0 || n+uint64(k)+crc32.Size != uint64(len(b)) {
		return bad("invalid length")
	}
	body := b[k : uint64(k)+n]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(b[uint64(k)+n:]) {
		return bad("wrong checksum")
	}
	d := decoder{b: body}
	for i, count := uint64(0), d.uvarint(); i < count && !d.bad; i++ {
		name, value := d.uvarint(), d.uvarint()
		if name > maxSymbol || value > maxSymbol {
			return bad("symbol out of bounds")
		}
		syms = append(syms, uint32(name), uint32(value))
	}
	var c chunkMeta
	for i, count := uint64(0), d.uvarint(); i < count && !d.bad; i++ {
		if i == 0 {
			c.mint = d.varint()
			c.maxt = c.mint + int64(d.uvarint())
			c.ref = d.uvarint()
		} else {
			c.mint = c.maxt + int64(d.uvarint())
			c.maxt = c.mint + int64(d.uvarint())
			c.ref += uint64(d.varint())
		}
		if !d.bad && c.mint <= q.MaxTime && c.maxt >= q.MinTime {
			chks = append(chks, c)
		}
	}
	if d.bad {
		return bad("entry ends early")
	}
	return syms, chks, nil
}

const maxSymbol = 1<<32 - 1

// decoder reads varints; bad is set once one is not there.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	b := d.b
	if len(b) >= 4 {
		// Nearly all numbers have at most three bytes: symbols, times and distances.
		switch w := binary.LittleEndian.Uint32(b); {
		case w&0x80 == 0:
			d.b = b[1:]
			return uint64(w & 0x7f)
		case w&0x8000 == 0:
			d.b = b[2:]
			return uint64(w&0x7f | w>>1&0x3f80)
		case w&0x800000 == 0:
			d.b = b[3:]
			return uint64(w&0x7f | w>>1&0x3f80 | w>>2&0x1fc000)
		}
	}
	v, n := binary.Uvarint(b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	x := int64(v >> 1)
	if v&1 != 0 {
		x = ^x
	}
	return x
}

// symbolFilter applies one matcher to values given by symbol, each once.
type symbolFilter struct {
	m    *labels.Matcher
	seen map[uint32]bool
}

func (r *reader) setFilter(ms []*labels.Matcher) {
	r.filters = r.filters[:0]
	for _, m := range ms {
		r.filters = append(r.filters, symbolFilter{m: m, seen: map[uint32]bool{}})
	}
}

// labels makes the label set of symbols, with the external labels if they are
// to be added here. ok is false when a filter rejects it.
func (r *reader) labels(syms []uint32) (lset labels.Labels, ok bool, err error) {
	for i := range r.filters {
		if !r.filters[i].accepts(r.h, syms) {
			return labels.EmptyLabels(), false, nil
		}
	}
	lset, err = r.sets.make(syms)
	return lset, err == nil, err
}

func (f *symbolFilter) accepts(h *indexheader.Header, syms []uint32) bool {
	for i := 0; i < len(syms); i += 2 {
		if name, err := h.Symbol(syms[i]); err != nil || name != f.m.Name {
			continue
		}
		ok, known := f.seen[syms[i+1]]
		if !known {
			value, err := h.Symbol(syms[i+1])
			ok = err == nil && f.m.Matches(value)
			f.seen[syms[i+1]] = ok
		}
		return ok
	}
	return f.m.Matches("")
}
