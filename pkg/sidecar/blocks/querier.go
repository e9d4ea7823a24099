package blocks

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// ChunkQuerier reads the blocks between two times, both inclusive. The querier
// holds the view until it is closed.
func (v *View) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := v.querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	v.dir.mu.Lock()
	v.refs++
	v.dir.mu.Unlock()
	return holdingQuerier{ChunkQuerier: q, view: v}, nil
}

// holdingQuerier releases its view when it is closed.
type holdingQuerier struct {
	storage.ChunkQuerier
	view *View
}

func (q holdingQuerier) Close() error {
	defer q.view.Release()
	return q.ChunkQuerier.Close()
}

// querier merges the queriers of the blocks in the range.
func (v *View) querier(mint, maxt int64) (storage.ChunkQuerier, error) {
	var qs []storage.ChunkQuerier
	overlap, end := false, int64(math.MinInt64)
	for _, b := range v.blocks {
		if !b.OverlapsClosedInterval(mint, maxt) {
			continue
		}
		q, err := tsdb.NewBlockChunkQuerier(cachedBlock{b.Block, b.index}, mint, maxt)
		if err != nil {
			for _, q := range qs {
				err = errors.Join(err, q.Close())
			}
			return nil, fmt.Errorf("read block %s: %w", b.Meta().ULID, err)
		}
		qs = append(qs, q)
		meta := b.Meta()
		overlap = overlap || meta.MinTime < end
		end = max(end, meta.MaxTime)
	}
	if len(qs) == 1 {
		return qs[0], nil
	}
	if overlap {
		return storage.NewMergeChunkQuerier(qs, nil, storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)), nil
	}
	return storage.NewMergeChunkQuerier(qs, nil, chain), nil
}

// chain joins the parts of a series from blocks that do not overlap. parts are in
// any order.
func chain(parts ...storage.ChunkSeries) storage.ChunkSeries {
	if len(parts) == 1 {
		return parts[0]
	}
	return &storage.ChunkSeriesEntry{
		Lset: parts[0].Labels(),
		ChunkIteratorFn: func(it chunks.Iterator) chunks.Iterator {
			c, ok := it.(*chained)
			if !ok {
				c = &chained{}
			}
			c.read(parts)
			return c
		},
	}
}

// chained iterates over the chunks of several parts in the order of time.
type chained struct {
	part  chunks.Iterator
	metas []chunks.Meta
	next  int
	err   error
}

func (c *chained) read(parts []storage.ChunkSeries) {
	c.metas, c.next, c.err = c.metas[:0], 0, nil
	for _, p := range parts {
		c.part = p.Iterator(c.part)
		for c.part.Next() {
			c.metas = append(c.metas, c.part.At())
		}
		if c.err = c.part.Err(); c.err != nil {
			return
		}
	}
	slices.SortFunc(c.metas, func(a, b chunks.Meta) int { return cmp.Compare(a.MinTime, b.MinTime) })
}

func (c *chained) Next() bool {
	if c.err != nil || c.next >= len(c.metas) {
		return false
	}
	c.next++
	return true
}

func (c *chained) At() chunks.Meta { return c.metas[c.next-1] }
func (c *chained) Err() error      { return c.err }
