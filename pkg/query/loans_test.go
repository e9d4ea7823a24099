package query

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// lendingStore lends the bytes of chunks in pieces, each for the chunks of some series
// that follow each other.
type lendingStore struct {
	storeapi.Store
	lent, recycled, released atomic.Int64
}

func (s *lendingStore) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	return &lendingSet{SeriesSet: s.Store.Select(ctx, r), store: s}
}

type lendingSet struct {
	storeapi.SeriesSet
	store *lendingStore
	lends bool
	n     int
	cur   storeapi.Series
	piece *piece
	spent pieces
}

type piece struct {
	bytes [][]byte
	ended bool
}

// pieces implements storeapi.Memory: what is recycled is overwritten.
type pieces struct {
	store *lendingStore
	all   []*piece
}

func (p pieces) end() {
	for _, one := range p.all {
		if one.ended {
			panic("memory is given back twice")
		}
		one.ended = true
	}
}

func (p pieces) Recycle() {
	p.end()
	p.store.recycled.Add(int64(len(p.all)))
	for _, one := range p.all {
		for _, b := range one.bytes {
			for i := range b {
				b[i] = 0xdb
			}
		}
	}
}

func (p pieces) Release() {
	p.end()
	p.store.released.Add(int64(len(p.all)))
}

func (s *lendingSet) Lend() { s.lends = true }

func (s *lendingSet) Spent() storeapi.Memory {
	if !s.lends {
		panic("Spent without Lend")
	}
	out := s.spent
	if s.spent = (pieces{}); out.all == nil {
		return nil
	}
	return out
}

func (s *lendingSet) Next() bool {
	const together = 11 // neither a divisor nor a multiple of the series of a batch
	ok := s.SeriesSet.Next()
	if s.piece != nil && (!ok || s.n%together == 0) {
		s.spent.store, s.spent.all = s.store, append(s.spent.all, s.piece)
		s.piece = nil
	}
	if !ok {
		return false
	}
	if s.n++; s.piece == nil {
		s.piece = &piece{}
		s.store.lent.Add(1)
	}
	at := s.SeriesSet.At()
	s.cur = storeapi.Series{Labels: at.Labels}
	for _, c := range at.Chunks {
		c.Raw.Bytes = bytes.Clone(c.Raw.Bytes)
		s.piece.bytes = append(s.piece.bytes, c.Raw.Bytes)
		s.cur.Chunks = append(s.cur.Chunks, c)
	}
	return true
}

func (s *lendingSet) At() storeapi.Series { return s.cur }

// TestStream_GivesLentMemoryBack decodes series in other goroutines, out of order and some
// time after they were read, while their memory is overwritten when the stream gives it back.
func TestStream_GivesLentMemoryBack(t *testing.T) {
	many := newManyStore(t, 3000, 4)
	hints := storage.SelectHints{Start: 0, End: 1 << 40}
	want := streamed(t, NewQueryable(many, replicaConfig()).streams().Select(t.Context(), sel("http.*", hints)))
	store := &lendingStore{Store: many}
	for range 3 {
		st := NewQueryable(store, replicaConfig()).streams().Select(t.Context(), sel("http.*", hints))
		got := streamed(t, st)
		require.NoError(t, st.Close())
		require.Equal(t, want, got)
		require.Equal(t, store.lent.Load(), store.recycled.Load(), "all memory is used again")
		require.Zero(t, store.released.Load())
	}
	require.Greater(t, store.lent.Load(), int64(1000))
}

// A series that is in use keeps its bytes, and the memory that waits for it is bounded.
func TestStream_KeepsLentMemoryOfSeriesInUse(t *testing.T) {
	many := newManyStore(t, 5000, 4)
	hints := storage.SelectHints{Start: 0, End: 1 << 40}
	for kept := range 20 { // the first batches are small: some series are the last of theirs
		store := &lendingStore{Store: many}
		st := NewQueryable(store, replicaConfig()).streams().Select(t.Context(), sel("http.*", hints))
		var late eval.Series
		var want, got eval.Samples
		for n := 0; st.Next(); n++ {
			if n == kept {
				late = st.At()
				require.NoError(t, late.Decode(&want))
				continue
			}
			st.At().Release()
		}
		require.NoError(t, st.Err())
		require.NoError(t, late.Decode(&got))
		require.Equal(t, want, got)
		require.Positive(t, store.released.Load(), "what exceeds the bound is left to the collector")
		var wg sync.WaitGroup
		wg.Go(late.Release)
		require.NoError(t, st.Close())
		wg.Wait()
		require.Equal(t, store.lent.Load(), store.recycled.Load()+store.released.Load(), "each piece is given back")
	}
}
