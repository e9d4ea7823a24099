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
	// columns are the memory of chunks that the column cache had; cache takes it back.
	columns [][]byte
	cache   *pagecache.Cache

	account *pagecache.Account
	around  int64 // bytes that are held beside the pages, those of columns among them
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
	for _, m := range b.columns {
		b.cache.GiveBack(m)
	}
	b.drop()
	clear(b.pages)
	clear(b.columns)
	clear(b.chunks)
	clear(b.items)
	pool := b.pool
	*b = batch{items: b.items[:0], chunks: b.chunks[:0], pages: b.pages[:0], columns: b.columns[:0]}
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
	// lends says that chunks outlive the calls of Next: batches are spent before they are
	// recycled.
	lends bool
	spent Spent
}

// Lend makes Flush collect batches for Spent. It is called before the sets are read.
func (r *Recycler) Lend() { r.lends = true }

// Flush recycles the batches of series that the sets have returned before their last
// series. Nothing may refer to the bytes of their chunks, unless Lend was called.
func (r *Recycler) Flush() {
	if r.lends {
		r.spent = append(r.spent, r.done...)
	} else {
		Spent(r.done).Recycle()
	}
	clear(r.done)
	r.done = r.done[:0]
}

// Spent returns the batches that Flush has collected.
func (r *Recycler) Spent() Spent {
	out := r.spent
	r.spent = nil
	return out
}

// Close gives up what is left, after the sets were closed.
func (r *Recycler) Close() {
	r.Flush()
	r.Spent().Release()
}

// giveUp is for a batch whose set is closed.
func (r *Recycler) giveUp(b *batch) {
	if r.lends {
		b.release() // series of it may still be in use
	} else {
		b.recycle()
	}
}

// Spent is memory that no later series of the sets refers to. It belongs to one
// goroutine at a time, which calls one of the methods once.
type Spent []*batch

// Recycle lets other requests use the memory.
func (s Spent) Recycle() {
	for _, b := range s {
		b.recycle()
	}
}

// Release ends the accounting for the memory, which stays valid while it is in use.
func (s Spent) Release() {
	for _, b := range s {
		b.release()
	}
}
