package query

import (
	"errors"
	"fmt"

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

// Err implements chunkenc.Iterator. Data that an iterator cannot decode is a corrupt
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
