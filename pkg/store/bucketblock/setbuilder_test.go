package bucketblock

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// Random series, sorted as in a block, with and without external labels, get the sets
// that the labels package builds; a symbol that does not exist fails one of them and
// spoils none after it.
func TestSetBuilder_MakesTheSetsOfTheLabelsPackage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	symbols := []string{"", strings.Repeat("v", 254), strings.Repeat("w", 255), strings.Repeat("x", 300)}
	for i := range 40 {
		symbols = append(symbols, fmt.Sprintf("%c%02d", 'a'+rng.IntN(26), i))
	}
	slices.Sort(symbols)
	lookup := func(n uint32) (string, error) {
		if int(n) >= len(symbols) {
			return "", errDamaged
		}
		return symbols[n], nil
	}
	for range 200 {
		external := randomExternal(rng)
		s := setBuilder{symbol: lookup, external: external}
		var made, want []labels.Labels
		for _, syms := range randomSeries(rng, len(symbols)) {
			if rng.IntN(8) == 0 {
				bad := slices.Clone(syms)
				bad[rng.IntN(len(bad))] = uint32(len(symbols))
				_, err := s.make(bad)
				require.ErrorIs(t, err, errDamaged)
			}
			b := labels.NewScratchBuilder(8)
			for i := 0; i < len(syms); i += 2 {
				b.Add(symbols[syms[i]], symbols[syms[i+1]])
			}
			for _, l := range external {
				b.Add(l.Name, l.Value)
			}
			b.Sort()
			got, err := s.make(syms)
			require.NoError(t, err)
			made, want = append(made, got), append(want, b.Labels())
		}
		for i := range made { // they stay as they are
			require.Equal(t, want[i].String(), made[i].String())
			require.True(t, labels.Equal(want[i], made[i]))
		}
	}
}

// A label without a name breaks functions of label sets. The set after it is as it should be.
func TestSetBuilder_RefusesLabelWithoutName(t *testing.T) {
	s := setBuilder{symbol: func(n uint32) (string, error) { return []string{"", "a", "b"}[n], nil }}
	_, err := s.make([]uint32{0, 1, 1, 2})
	require.ErrorIs(t, err, errDamaged)
	require.ErrorContains(t, err, "without a name")
	got, err := s.make([]uint32{1, 2})
	require.NoError(t, err)
	require.Equal(t, "{a=\"b\"}", got.String())
}

// randomExternal returns sorted labels that differ from all symbols.
func randomExternal(rng *rand.Rand) (out []labels.Label) {
	for i := range rng.IntN(4) {
		out = append(out, labels.Label{Name: fmt.Sprintf("%c_%d", 'a'+rng.IntN(26), i), Value: "e"})
	}
	slices.SortFunc(out, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// randomSeries returns sorted series of few different symbols, each with names that
// ascend and are not symbol 0, which is empty.
func randomSeries(rng *rand.Rand, symbols int) (out [][]uint32) {
	for range 1 + rng.IntN(60) {
		var syms []uint32
		for name := 1 + rng.IntN(3); name < symbols && len(syms) < 12; name += 1 + rng.IntN(8) {
			syms = append(syms, uint32(name), uint32(rng.IntN(2)+symbols/2))
		}
		out = append(out, syms)
	}
	slices.SortFunc(out, slices.Compare)
	return out
}
