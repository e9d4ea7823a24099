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
	h.all.chunks += int64(len(s.Chunks))
	bytes, memory := bytesOf(s)
	h.all.bytes += bytes
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
	return h.account.take(h.ctx, memory)
}

// Remove implements storeapi.Holding.
func (h *holding) Remove(s storeapi.Series) {
	_, memory := bytesOf(s)
	h.account.give(memory)
}

// bytesOf is the size of the labels and chunks of a series, and its memory.
func bytesOf(s storeapi.Series) (bytes, memory int64) {
	bytes = int64(s.Labels.ByteSize())
	memory = bytes + seriesOverhead + chunkOverhead*int64(len(s.Chunks))
	for i := range s.Chunks {
		w := weigh(&s.Chunks[i])
		bytes, memory = bytes+w.bytes, memory+w.memory
	}
	return bytes, memory
}
