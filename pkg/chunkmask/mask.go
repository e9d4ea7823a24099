package chunkmask

import (
	"fmt"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Widen returns the intervals with their ends moved outwards to the bounds of the
// windows of a resolution in milliseconds; of raw data, 0, they stay as they are.
// Intervals are inclusive, sorted, and do not overlap, in the argument and in the
// result.
func Widen(deleted tombstones.Intervals, resolution int64) tombstones.Intervals {
	if resolution <= 0 {
		return deleted
	}
	var out tombstones.Intervals
	for _, d := range deleted {
		out = Add(out, tombstones.Interval{Mint: windowStart(d.Mint, resolution), Maxt: windowEnd(d.Maxt, resolution)})
	}
	return out
}

// The extreme times stay as they are, because they have no window.
const (
	minTime = -1 << 62
	maxTime = 1 << 62
)

func windowStart(t, r int64) int64 {
	if t < minTime {
		return t
	}
	if m := t % r; m < 0 {
		return t - m - r
	} else {
		return t - m
	}
}

func windowEnd(t, r int64) int64 {
	if t > maxTime {
		return t
	}
	return windowStart(t, r) + r - 1
}

// Series returns the chunks of a series of the resolution without the samples in the
// deleted intervals. It leaves the slice chks as it is; the bytes of the result may be
// those of chks. Of a chunk that holds only some aggregates, the result holds the same.
func Series(chks []storeapi.Chunk, deleted tombstones.Intervals, resolution int64) ([]storeapi.Chunk, error) {
	m := masker{deleted: Widen(deleted, resolution), resolution: resolution}
	if !m.touches(len(chks), func(i int) (int64, int64) { return chks[i].MinTime, chks[i].MaxTime }) {
		return chks, nil
	}
	out := make([]storeapi.Chunk, 0, len(chks))
	// From the end, because the last raw value of a counter may depend on the chunk
	// after it.
	for i := len(chks) - 1; i >= 0; i-- {
		c := &chks[i]
		kept, err := m.chunk(c)
		if err != nil {
			return nil, fmt.Errorf("remove deleted samples from the chunk from %d to %d: %w", c.MinTime, c.MaxTime, err)
		}
		for k := len(kept) - 1; k >= 0; k-- {
			out = append(out, kept[k])
		}
	}
	reverse(out)
	return out, nil
}

// Metas is Series for the chunks of a block, which have their data.
func Metas(chks []chunks.Meta, deleted tombstones.Intervals, resolution int64) ([]chunks.Meta, error) {
	m := masker{deleted: Widen(deleted, resolution), resolution: resolution}
	if !m.touches(len(chks), func(i int) (int64, int64) { return chks[i].MinTime, chks[i].MaxTime }) {
		return chks, nil
	}
	out := make([]chunks.Meta, 0, len(chks))
	for i := len(chks) - 1; i >= 0; i-- {
		kept, err := m.meta(&chks[i])
		if err != nil {
			return nil, fmt.Errorf("remove deleted samples from the chunk from %d to %d: %w", chks[i].MinTime, chks[i].MaxTime, err)
		}
		for k := len(kept) - 1; k >= 0; k-- {
			out = append(out, kept[k])
		}
	}
	reverse(out)
	return out, nil
}

func reverse[T any](s []T) {
	for i, k := 0, len(s)-1; i < k; i, k = i+1, k-1 {
		s[i], s[k] = s[k], s[i]
	}
}

// masker removes samples from the chunks of one series, from the last to the first.
type masker struct {
	deleted    tombstones.Intervals
	resolution int64
	// next is the first value of the counter in the chunk after the current one.
	next    float64
	hasNext bool
}

// overlaps says whether any deleted interval has a time in [mint, maxt].
func (m *masker) overlaps(mint, maxt int64) bool {
	for _, d := range m.deleted {
		if d.Mint <= maxt && mint <= d.Maxt {
			return true
		}
	}
	return false
}

// touches says whether any of n spans overlaps a deleted interval. The last window of
// an aggregate chunk may end after MaxTime, but deleted intervals are whole windows.
func (m *masker) touches(n int, span func(int) (mint, maxt int64)) bool {
	for i := range n {
		if m.overlaps(span(i)) {
			return true
		}
	}
	return false
}

func (m *masker) isDeleted(t int64) bool {
	for _, d := range m.deleted {
		if d.InBounds(t) {
			return true
		}
	}
	return false
}

// chunk masks one chunk of an answer.
func (m *masker) chunk(c *storeapi.Chunk) ([]storeapi.Chunk, error) {
	if (tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}).IsSubrange(m.deleted) {
		return nil, nil
	}
	whole := !m.overlaps(c.MinTime, c.MaxTime)
	if c.Aggr != nil {
		if whole {
			m.keep(c.Aggr)
			return []storeapi.Chunk{*c}, nil
		}
		return m.aggregates(c.Aggr)
	}
	if whole {
		return []storeapi.Chunk{*c}, nil
	}
	metas, err := m.raw(c.Raw.Encoding, aggr.DataIterator(c.Raw))
	if err != nil {
		return nil, err
	}
	out := make([]storeapi.Chunk, len(metas))
	for i, k := range metas {
		out[i] = storeapi.Chunk{
			MinTime: k.MinTime, MaxTime: k.MaxTime,
			Raw: storeapi.Data{Encoding: k.Chunk.Encoding(), Bytes: k.Chunk.Bytes()},
		}
	}
	return out, nil
}

// meta masks one chunk of a block.
func (m *masker) meta(c *chunks.Meta) ([]chunks.Meta, error) {
	if (tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}).IsSubrange(m.deleted) {
		return nil, nil
	}
	whole := !m.overlaps(c.MinTime, c.MaxTime)
	if c.Chunk.Encoding() != aggr.Encoding {
		if whole {
			return []chunks.Meta{*c}, nil
		}
		return m.raw(c.Chunk.Encoding(), c.Chunk.Iterator(nil))
	}
	a, err := aggr.Decode(c.Chunk.Bytes())
	if err != nil {
		return nil, err
	}
	if whole {
		m.keep(&a)
		return []chunks.Meta{*c}, nil
	}
	kept, err := m.aggregates(&a)
	if err != nil {
		return nil, err
	}
	out := make([]chunks.Meta, len(kept))
	for i, k := range kept {
		b, err := aggr.Append(nil, k.Aggr)
		if err != nil {
			return nil, err
		}
		out[i] = chunks.Meta{MinTime: k.MinTime, MaxTime: k.MaxTime, Chunk: aggr.NewChunk(b)}
	}
	return out, nil
}

// raw encodes the kept samples of a raw chunk again.
func (m *masker) raw(enc chunkenc.Encoding, it chunkenc.Iterator) ([]chunks.Meta, error) {
	series := &storage.SeriesEntry{SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return &filter{Iterator: it, m: m}
	}}
	encoded := storage.NewSeriesToChunkEncoderWithFloatEncoding(series, enc).Iterator(nil)
	var out []chunks.Meta
	for encoded.Next() {
		out = append(out, encoded.At())
	}
	return out, encoded.Err()
}
