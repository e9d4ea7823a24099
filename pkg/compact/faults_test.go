package compact_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// Blocks that never grow to the length that is downsampled: labels that change with each
// restart, a no-compact mark, the last days before a window ends. All are out of retention in
// both resolutions. Raw data goes when its 5m data is there, and that when its 1h data is.
func TestRunOnce_DownsamplesShortBlocksBeforeTheyGo(t *testing.T) {
	b := blocktest.Bucket(t, `
block pod1 range=0h..20h labels={cluster="pods",pod="x7"}
  up 0h..20h/5m:1+1
block pod2 range=20h..30h labels={cluster="pods",pod="k2"}
  up 20h..30h/5m:1+1
block marked range=0h..8h labels={cluster="marked"}
  up 0h..8h/5m:1+1
mark marked no-compact at=1h
block first range=264h..336h labels={cluster="first"}
  up 264h..336h/5m:1+1
`)
	c := newCompactor(t, b, "--retention.resolution-raw=40h", "--retention.resolution-5m=10d", "--delete-delay=0s")
	require.NoError(t, c.RunOnce(t.Context()))
	require.NoError(t, c.RunOnce(t.Context()))
	require.Equal(t, []string{
		`0..20h res=60 level=1 samples=20 series=1 {cluster="pods", pod="x7"}`,
		`0..8h res=60 level=1 samples=8 series=1 {cluster="marked"}`,
		`20..30h res=60 level=1 samples=10 series=1 {cluster="pods", pod="k2"}`,
		`264..336h res=60 level=1 samples=72 series=1 {cluster="first"}`,
	}, live(t, b))
}

// Blocks come late, twice, or in a new version of the same range: after a partition, by the
// copy of one bucket into another one, because a block was deleted by hand, or because series
// were deleted in the producer. Every sample is there once after the next pass.
func TestRunOnce_TakesInLateAndRepeatedBlocks(t *testing.T) {
	const first = `
block a range=0h..2h labels={cluster="late"}
  up 0h..2h/5m:1+1
block c range=4h..6h labels={cluster="late"}
  up 4h..6h/5m:1+1
block e range=8h..10h labels={cluster="late"}
  up 8h..10h/5m:1+1
block f range=10h..12h labels={cluster="late"}
  up 10h..12h/5m:1+1
block k range=0h..8h labels={cluster="copied"} sources=k1,k2 level=2
  up{of="k"} 0h..8h/5m:1+1
block v range=0h..2h labels={cluster="versions"}
  up 0h..2h/5m:1+1
  gone 0h..2h/5m:2+1
`
	const later = `
block b range=2h..4h labels={cluster="late"}
  up 2h..4h/5m:1+1
block k-again range=0h..8h labels={cluster="copied"} sources=k1,k2 level=2
  up{of="k"} 0h..8h/5m:1+1
block l range=0h..8h labels={cluster="copied"} sources=l1,l2 level=2
  up{of="l"} 0h..8h/5m:1+1
block v-new range=0h..2h labels={cluster="versions"}
  up 0h..2h/5m:1+1
`
	want := content(t, blocktest.Bucket(t, strings.Replace(first, "block v range", "block v-old range", 1)+later))
	for key, list := range want {
		if !strings.Contains(key, `"late"`) { // of which there are two copies
			once := list[:0:0]
			for i, s := range list {
				if i == 0 || s != list[i-1] {
					once = append(once, s)
				}
			}
			want[key] = once
		}
	}
	b := blocktest.Bucket(t, first)
	c := newCompactor(t, b, "--delete-delay=0s")
	require.NoError(t, c.RunOnce(t.Context()))
	blocktest.Fill(t, b, later)
	// The producer uploads a block again whose samples are in a merged one.
	again, _, _ := strings.Cut(first, "block c")
	blocktest.Fill(t, b, again)
	require.NoError(t, c.RunOnce(t.Context()))
	require.Equal(t, want, content(t, b))
	require.Equal(t, []string{
		`0..2h res=0 level=2 samples=48 series=2 {cluster="versions"}`,
		`0..6h res=0 level=3 samples=72 series=1 {cluster="late"}`,
		`0..8h res=0 level=3 samples=192 series=2 {cluster="copied"}`,
		`10..12h res=0 level=1 samples=24 series=1 {cluster="late"}`,
		`8..10h res=0 level=1 samples=24 series=1 {cluster="late"}`,
	}, live(t, b))
	require.NotContains(t, strings.Join(list(t, b), "\n"), blocktest.ID("a").String()+"/"+block.MetaFile)
}
