package storerpc

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// Messages of neighbours with common labels, labels in any order, twice, without a
// value or cut off, decode in a frame to what they decode to alone.
func TestSetDecoder_NeighboursDoNotChangeASet(t *testing.T) {
	rnd := rand.New(rand.NewSource(5))
	names := []string{"", "a", "b", "bb", "c", strings.Repeat("n", 130)}
	values := []string{"", "1", "2", strings.Repeat("v", 120), strings.Repeat("w", 300)}
	decodeOne := func(d *setDecoder, msg []byte) (labels.Labels, error) {
		f := &frame{labels: *d}
		err := f.addSeries(msg, true)
		*d = f.labels
		if err != nil {
			return labels.EmptyLabels(), err
		}
		return f.series[0].Labels, nil
	}
	copied, failed := 0, 0
	for range 300 {
		d := &setDecoder{}
		d.reset(100)
		var pairs [][2]string
		var got, want []labels.Labels
		for range 30 {
			pairs = pairs[:rnd.Intn(len(pairs)+1)]
			for i := len(pairs); len(pairs) < 6 && rnd.Intn(6) > 0; i++ {
				name := names[min(i, len(names)-1)]
				if rnd.Intn(20) == 0 {
					name = names[rnd.Intn(len(names))]
				}
				pairs = append(pairs, [2]string{name, values[rnd.Intn(len(values))]})
			}
			var msg []byte
			for _, p := range pairs {
				msg = appendLabel(msg, p[0], p[1])
			}
			if len(msg) > 0 && rnd.Intn(30) == 0 {
				msg = msg[:rnd.Intn(len(msg))]
			}
			alone := &setDecoder{}
			alone.reset(100)
			one, wantErr := decodeOne(alone, msg)
			before := len(d.ends)
			set, err := decodeOne(d, msg)
			require.Equal(t, fmt.Sprint(wantErr), fmt.Sprint(err))
			if err != nil {
				failed++
				d = &setDecoder{} // as the rest of the frame is not read
				d.reset(100)
				continue
			}
			copied += min(before, len(d.ends))
			got, want = append(got, set), append(want, one)
		}
		d.release()
		for i := range got {
			require.True(t, labels.Equal(want[i], got[i]), "%s, alone %s", got[i], want[i])
		}
	}
	require.Greater(t, copied, 1000)
	require.Greater(t, failed, 50)
}

// The limits of a set hold where its labels are copied.
func TestSetDecoder_CountsCopiedLabels(t *testing.T) {
	f := &frame{}
	var msg []byte
	for i := range maxLabels {
		msg = appendLabel(msg, fmt.Sprintf("l%06d", i), "v")
	}
	f.labels.reset(len(msg))
	require.NoError(t, f.addSeries(msg, true))
	require.Error(t, f.addSeries(appendLabel(msg, "m", "v"), true))
}
