package query

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// bounded returns the samples of an iterator from mint to maxt, inclusive.
type bounded struct {
	chunkenc.Iterator
	mint, maxt int64
	ended      bool
}

func (b *bounded) Next() chunkenc.ValueType {
	if b.ended {
		return chunkenc.ValNone
	}
	typ := b.Iterator.Next()
	if typ != chunkenc.ValNone && b.Iterator.AtT() < b.mint {
		typ = b.Iterator.Seek(b.mint)
	}
	return b.clip(typ)
}

func (b *bounded) Seek(t int64) chunkenc.ValueType {
	if b.ended || t > b.maxt {
		b.ended = true
		return chunkenc.ValNone
	}
	return b.clip(b.Iterator.Seek(max(t, b.mint)))
}

// Err implements chunkenc.Iterator. What an iterator cannot decode is a corrupt
// chunk, whatever the decoder calls it.
func (b *bounded) Err() error {
	err := b.Iterator.Err()
	if err == nil || errors.Is(err, aggr.ErrCorrupt) || errors.Is(err, aggr.ErrNoAggregate) {
		return err
	}
	return fmt.Errorf("%w: %w", aggr.ErrCorrupt, err)
}

func (b *bounded) clip(typ chunkenc.ValueType) chunkenc.ValueType {
	if typ == chunkenc.ValNone || b.Iterator.AtT() > b.maxt {
		b.ended = true
		return chunkenc.ValNone
	}
	return typ
}

// withoutStale leaves out stale markers. They mean nothing to the functions
// that read counters, and of one replica of several they would hide the last
// value from which the next replica must go on.
type withoutStale struct {
	chunkenc.Iterator
}

func (w *withoutStale) Next() chunkenc.ValueType {
	return w.skip(w.Iterator.Next())
}

func (w *withoutStale) Seek(t int64) chunkenc.ValueType {
	return w.skip(w.Iterator.Seek(t))
}

func (w *withoutStale) skip(typ chunkenc.ValueType) chunkenc.ValueType {
	for typ == chunkenc.ValFloat {
		if _, v := w.At(); !value.IsStaleNaN(v) {
			break
		}
		typ = w.Iterator.Next()
	}
	return typ
}
