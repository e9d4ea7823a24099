package query

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Hold implements storeapi.Account.
func (a *account) Hold(ctx context.Context, store string) storeapi.Holding {
	return &holding{account: a, ctx: ctx, store: store}
}

// holding is what a fan-out holds of the answer of one store. Its series, chunks and bytes
// count for the limits of the request at once, so that a store without end meets them early, and once
// more when the request reads them; each store is compared with the limits alone,
// because stores may have copies of the same series. Its samples do not count: they are
// not decoded, and do not reach the evaluator at once.
type holding struct {
	account *account
	ctx     context.Context
	store   string
	all     counts
	last    labels.Labels
}

// Add implements storeapi.Holding.
func (h *holding) Add(s storeapi.Series) error {
	size := bytesOf(s)
	h.all.chunks += int64(len(s.Chunks))
	h.all.bytes += size
	if h.all.series == 0 || !labels.Equal(h.last, s.Labels) {
		h.all.series++
	}
	h.last = s.Labels
	h.account.mtx.Lock()
	err := h.account.exceeded(h.all, func() string { return h.store })
	h.account.mtx.Unlock()
	if err != nil {
		return err
	}
	return h.account.take(h.ctx, heldMemory(s, size))
}

// Remove implements storeapi.Holding.
func (h *holding) Remove(s storeapi.Series) {
	h.account.give(heldMemory(s, bytesOf(s)))
}

// bytesOf is the size of the labels and chunks of a series.
func bytesOf(s storeapi.Series) int64 {
	size := int64(s.Labels.ByteSize())
	for i := range s.Chunks {
		_, n := weigh(&s.Chunks[i])
		size += n
	}
	return size
}

func heldMemory(s storeapi.Series, bytes int64) int64 {
	return bytes + seriesOverhead + chunkOverhead*int64(len(s.Chunks))
}
