package seriescache

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// The hashes are so short that they collide all the time.
func TestCache_AgreesWithMap(t *testing.T) {
	rnd := rand.New(rand.NewSource(7))
	c, want := New(), map[int]storage.SeriesRef{}
	series := func(i int) (uint32, labels.Labels, []byte) {
		ls := labels.FromStrings("__name__", fmt.Sprint("m", i))
		return uint32(i*2654435761) >> 20, ls, remotewrite.AppendLabels(nil, ls)
	}
	for step := range 60_000 {
		i := rnd.Intn(3000)
		hash, ls, raw := series(i)
		switch op := rnd.Intn(10); {
		case op < 4:
			ref := storage.SeriesRef(step + 1)
			c.put(hash, Entry{ls, ref})
			want[i] = ref
		case op < 7 && step%20_000 > 5000:
			c.remove(hash, ls, want[i])
			delete(want, i)
		case op == 7:
			c.remove(hash, ls, 1<<60) // another reference: stays
		default:
			e, ok := c.lookup(hash, raw)
			ref, exists := want[i]
			require.Equal(t, exists, ok)
			require.Equal(t, ref, e.Ref)
		}
		require.Equal(t, len(want), c.used)
	}
	for i := range 3000 {
		hash, ls, _ := series(i)
		c.remove(hash, ls, want[i])
	}
	require.Zero(t, c.used)
	c.shrink()
	for _, s := range c.slots {
		require.Zero(t, s)
	}
}

func TestAliases_AreRemovedWithTheSeries(t *testing.T) {
	c := New()
	c.aliases.put([]byte("a"), Entry{Ref: 1})
	c.aliases.put([]byte("b"), Entry{Ref: 1})
	c.aliases.put([]byte("c"), Entry{Ref: 2})
	c.aliases.put([]byte("b"), Entry{Ref: 2}) // it has come back with another reference
	c.aliases.remove(1)
	require.Len(t, c.aliases.by, 2)
	c.aliases.remove(2)
	require.Empty(t, c.aliases.by)
	require.Empty(t, c.aliases.of)
}
