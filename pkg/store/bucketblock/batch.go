package bucketblock

import (
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
}

// newBatch returns an empty batch.
func (*Env) newBatch(account *pagecache.Account) *batch {
	return &batch{account: account}
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

// recycle is release, and lets others use the memory of the pages.
func (b *batch) recycle() {
	for _, p := range b.pages {
		p.Recycle()
	}
	b.drop()
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
