package bucketblock

import (
	"context"
	"strings"
	"time"
)

// LabelNames returns the sorted label names of all series of the block, without
// external labels.
func (b *Block) LabelNames(ctx context.Context) ([]string, error) {
	h, err := b.acquireHeader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { b.releaseHeader(time.Now()) }()
	return h.LabelNames(), nil
}

// LabelValues returns the first limit sorted values of a label among all series
// of the block; a limit of 0 means all.
func (b *Block) LabelValues(ctx context.Context, name string, limit int) ([]string, error) {
	h, err := b.acquireHeader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { b.releaseHeader(time.Now()) }()
	l := h.Label(name)
	n := l.Len()
	if limit > 0 {
		n = min(n, limit)
	}
	out := make([]string, n)
	for i := range out {
		out[i] = strings.Clone(l.Value(i))
	}
	return out, nil
}
