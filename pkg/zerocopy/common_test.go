package zerocopy_test

import (
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

func TestCutCommon_CutsWholeLabels(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	text := func() string { return []string{"", "a", "ab", "abcdefgh", "abcdefghi"}[r.Intn(5)] }
	for range 3000 {
		sets := [2][]labels.Label{}
		for i := range sets {
			for n := range r.Intn(6) {
				sets[i] = append(sets[i], labels.Label{Name: string(rune('a'+n)) + text(), Value: text()})
			}
		}
		common := 0
		for common < min(len(sets[0]), len(sets[1])) && sets[0][common] == sets[1][common] {
			common++
		}
		x, y := zerocopy.CutCommon(zerocopy.Encoding(labels.New(sets[0]...)), zerocopy.Encoding(labels.New(sets[1]...)))
		require.Equal(t, zerocopy.Encoding(labels.New(sets[0][common:]...)), x)
		require.Equal(t, zerocopy.Encoding(labels.New(sets[1][common:]...)), y)
	}
}

func TestCommonBytes_And_IsASCII_AtEveryLength(t *testing.T) {
	for n := range 40 {
		x := make([]byte, n)
		require.Equal(t, n, zerocopy.CommonBytes(x, make([]byte, n+3)))
		require.True(t, zerocopy.IsASCII(zerocopy.String(x)))
		for i := range n {
			y := make([]byte, n)
			y[i] = 0x80
			require.Equal(t, i, zerocopy.CommonBytes(x, y))
			require.False(t, zerocopy.IsASCII(zerocopy.String(y)))
		}
	}
}
