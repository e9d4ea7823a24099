package bucketblock

import (
	"sync"

	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// batch is a part of the result.
type batch struct {
	items  []seriesItem
	chunks []storeapi.Chunk
	pages  []*pagecache.Pages // that the bytes of chunks lie in

	account *pagecache.Account
	around  int64 // bytes that are held beside the pages
	pool    *sync.Pool
}

// newBatch returns an empty batch.
func (e *Env) newBatch(account *pagecache.Account) *batch {
	b, ok := e.batches.Get().(*batch)
	if !ok {
		b = &batch{}
	}
	b.account, b.pool = account, &e.batches
	return b
}

// release ends the accounting for the memory, which stays valid while it is in use.
func (b *batch) release() {
	if b == nil {
		return
	}
	for _, p := range b.pages {
		p.Release()
	}
	b.drop()
}

// recycle is release, and lets other batches use the memory.
func (b *batch) recycle() {
	for _, p := range b.pages {
		p.Recycle()
	}
	b.drop()
	clear(b.pages)
	clear(b.chunks)
	clear(b.items)
	pool := b.pool
	*b = batch{items: b.items[:0], chunks: b.chunks[:0], pages: b.pages[:0]}
	pool.Put(b)
}

func (b *batch) drop() {
	if b.account != nil {
		b.account.Drop(b.around)
		b.around = 0
	}
}

// Recycler lets the sets of one request use memory again. It belongs to the goroutine
// that reads the sets.
type Recycler struct {
	done []*batch
}

// Flush recycles the batches of series that the sets have returned before their last
// series. Nothing may refer to the bytes of their chunks.
func (r *Recycler) Flush() {
	for i, b := range r.done {
		b.recycle()
		r.done[i] = nil
	}
	r.done = r.done[:0]
}
