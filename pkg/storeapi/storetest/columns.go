package storetest

import (
	"context"
	"hash/crc32"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Columns returns a store that has half of the chunks of s as columns, for requests that
// accept them.
func Columns(s storeapi.Store) storeapi.Store { return columnStore{s} }

type columnStore struct{ storeapi.Store }

// Select implements storeapi.Store.
func (s columnStore) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	set := s.Store.Select(ctx, r)
	if !r.Columns {
		return set
	}
	return &columnSet{SeriesSet: set}
}

type columnSet struct {
	storeapi.SeriesSet
	encoder columnchunk.Encoder
}

// At implements storeapi.SeriesSet.
func (s *columnSet) At() storeapi.Series {
	at := s.SeriesSet.At()
	at.Chunks = slices.Clone(at.Chunks)
	for i := range at.Chunks {
		c := &at.Chunks[i]
		// The same chunks in each query, whatever other chunks it reads.
		if len(c.Raw.Bytes) == 0 || crc32.ChecksumIEEE(c.Raw.Bytes)%2 == 0 {
			continue
		}
		if b, ok := s.encoder.AppendChunk(nil, c.Raw.Encoding, c.Raw.Bytes); ok {
			c.Raw.Encoding, c.Raw.Bytes, c.Raw.Hash = columnchunk.Encoding, b, 0
		}
	}
	return at
}
