package zerocopy_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// The lengths at which the form of a part changes, and the longest one.
var lengths = []int{0, 1, 127, 128, 253, 254, 255, 256, 257, 65535, 65536, zerocopy.MaxPart}

func TestLabels_EveryLengthIsThatOfTheLabelsPackage(t *testing.T) {
	for _, n := range lengths {
		long := strings.Repeat("x", n)
		checkLabels(t, []labels.Label{{Name: "a", Value: long}, {Name: "b", Value: ""}})
		checkLabels(t, []labels.Label{{Name: "a", Value: "1"}, {Name: "b" + long[min(n, 1):], Value: "2"}, {Name: "c", Value: "3"}})
	}
	checkLabels(t, nil)
}

func TestLabels_RandomSetsAreThoseOfTheLabelsPackage(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	text := func() string {
		b := make([]byte, lengths[r.Intn(len(lengths)-3)]+r.Intn(3))
		r.Read(b)
		return string(b)
	}
	for range 2000 {
		in := make([]labels.Label, r.Intn(8))
		for i := range in {
			in[i] = labels.Label{Name: text(), Value: text()}
		}
		checkLabels(t, unique(in))
	}
}

func FuzzLabels(f *testing.F) {
	f.Add("a\x00b\x00c\x00d")
	f.Add("\x00\x00")
	f.Add("__name__\x00up\x00job\x00" + strings.Repeat("j", 300))
	f.Fuzz(func(t *testing.T, in string) {
		parts := strings.Split(in, "\x00")
		var ls []labels.Label
		for i := 0; i+1 < len(parts); i += 2 {
			ls = append(ls, labels.Label{Name: parts[i], Value: parts[i+1]})
		}
		checkLabels(t, unique(ls))
	})
}

// unique sorts the labels by name and keeps the first of each name.
func unique(ls []labels.Label) []labels.Label {
	slices.SortStableFunc(ls, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	return slices.CompactFunc(ls, func(a, b labels.Label) bool { return a.Name == b.Name })
}

// checkLabels compares the set made here with that of the labels package, in
// both directions.
func checkLabels(t *testing.T, in []labels.Label) {
	t.Helper()
	builder := labels.NewScratchBuilder(len(in))
	var b []byte
	for _, l := range in {
		builder.Add(l.Name, l.Value)
		b = zerocopy.AppendPart(zerocopy.AppendPart(b, []byte(l.Name)), []byte(l.Value))
	}
	want := builder.Labels()
	got := zerocopy.Labels(b)
	require.True(t, labels.Equal(want, got))
	require.Equal(t, want.Hash(), got.Hash())
	require.Equal(t, want.Len(), got.Len())
	require.Zero(t, labels.Compare(want, got))
	require.True(t, string(b) == zerocopy.Encoding(want), "the encoding of the labels package has changed")

	var parts []labels.Label
	for s := zerocopy.Encoding(want); s != ""; {
		var l labels.Label
		l.Name, s = zerocopy.CutPart(s)
		l.Value, s = zerocopy.CutPart(s)
		parts = append(parts, l)
	}
	require.True(t, slices.Equal(in, parts))
}

// Poisoned memory shows in a view of it, and in no copy.
func TestString_SharesMemory(t *testing.T) {
	b := []byte("value")
	view, kept := zerocopy.String(b), strings.Clone(zerocopy.String(b))
	poison(b)
	require.Equal(t, "#####", view)
	require.Equal(t, "value", kept)
}

func TestBytes_SharesMemory(t *testing.T) {
	b := []byte("value")
	view := zerocopy.Bytes(zerocopy.String(b))
	kept := slices.Clone(view)
	require.Equal(t, len(view), cap(view), "an append copies")
	poison(b)
	require.Equal(t, "#####", string(view))
	require.Equal(t, "value", string(kept))
}

func TestViews_OfNothing(t *testing.T) {
	require.Equal(t, "", zerocopy.String(nil))
	require.Empty(t, zerocopy.Bytes(""))
	require.True(t, zerocopy.Labels(nil).IsEmpty())
	require.Equal(t, "", zerocopy.Encoding(labels.EmptyLabels()))
}

// A set made from a part of a buffer does not see what happens to the rest.
func TestLabels_DoNotReachBeyondTheirBytes(t *testing.T) {
	b := zerocopy.AppendPart(zerocopy.AppendPart([]byte("before"), []byte("a")), []byte("1"))
	end := len(b)
	b = append(b, "behind"...)
	ls := zerocopy.Labels(b[6:end])
	poison(b[:6])
	poison(b[end:])
	require.Equal(t, `{a="1"}`, ls.String())
}

func poison(b []byte) {
	for i := range b {
		b[i] = '#'
	}
}

func ExampleLabels() {
	var b []byte
	for _, part := range []string{"__name__", "up", "job", "node"} {
		b = zerocopy.AppendPart(b, []byte(part))
	}
	fmt.Println(zerocopy.Labels(b))
	// Output: {__name__="up", job="node"}
}
