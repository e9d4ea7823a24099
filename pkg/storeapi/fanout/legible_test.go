package fanout

import (
	"math/rand"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func TestLegible_DoesNotDependOnTheSeriesBefore(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	// The length of a part behind a cut rune may look like the rest of the rune.
	values := []string{"1", "ü", "\xc3", "v\xe2\x82", strings.Repeat("v", 0xbc), "\xff", "€"}
	last, refused := labels.EmptyLabels(), 0
	for range 5000 {
		want := true
		var in []labels.Label
		for _, name := range []string{"a", "b", "c\xc3", "d", "é"} {
			if n := r.Intn(9); n < len(values) && (n < 2 || r.Intn(3) == 0) && (name != "c\xc3" || r.Intn(5) == 0) {
				want = want && utf8.ValidString(name) && utf8.ValidString(values[n])
				in = append(in, labels.Label{Name: name, Value: values[n]})
			}
		}
		ls := labels.New(in...)
		require.Equal(t, want, legible(last, ls), "%q after %q", ls, last)
		if want {
			last = ls
		} else {
			refused++
		}
	}
	require.Greater(t, refused, 1000)
}
