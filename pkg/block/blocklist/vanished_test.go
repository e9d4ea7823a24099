package blocklist_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// late lists objects with any of the prefixes not at all, as a provider whose listings
// are behind.
type late struct {
	bucket.Bucket
	hidden []string
}

func (l *late) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return l.Bucket.List(ctx, dir, func(o bucket.Object) error {
		for _, h := range l.hidden {
			if strings.HasPrefix(o.Name, h) {
				return nil
			}
		}
		return f(o)
	})
}

func TestPoll_KeepsBlocksThatTheListingLacks(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "meta b%d labels={x=\"1\"}\n", i)
	}
	l := &late{Bucket: blocktest.Bucket(t, text.String())}
	a, b := blocktest.ID("b1"), blocktest.ID("b2")
	p := blocklist.NewPoller(l, blocklist.Config{})
	poll := func() map[ulid.ULID]*block.Meta {
		v, err := p.Poll(t.Context())
		require.NoError(t, err)
		return v.Metas
	}
	require.Len(t, poll(), 40)

	l.hidden = []string{a.String(), block.Path(b, block.MetaFile)}
	require.Len(t, poll(), 40, "meta.json of both exists")
	require.NoError(t, l.Delete(t.Context(), block.Path(a, block.MetaFile)))
	got := poll()
	require.Len(t, got, 39)
	require.Contains(t, got, b)
	l.hidden = nil
	require.Len(t, poll(), 39)

	l.hidden = []string{"0"} // all of them
	_, err := p.Poll(t.Context())
	require.ErrorContains(t, err, "still has its meta.json")
	l.hidden = nil
	require.Len(t, poll(), 39)
	for id := range got {
		require.NoError(t, l.Delete(t.Context(), block.Path(id, block.MetaFile)))
	}
	require.Empty(t, poll(), "deleted ones are gone, however many")
}
