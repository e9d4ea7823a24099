package blockcolumns_test

import (
	"bytes"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
)

func TestRead_OfADamagedObjectIsRightOrCorrupt(t *testing.T) {
	series := seriesOf(t, `
		cpu{instance="a",mode="idle"} 0s..1h/15s:0.5+0.25
		cpu{instance="a",mode="user"} 0s..1h/15s:1e-7+1e300
		cpu{instance="b",mode="idle"} 0s:1 15s:stale | 1h:3
		lat 0s:h1
		up{instance="a"} 0s:1
		up{instance="b"} 0s:0`)
	idle := labels.MustNewMatcher(labels.MatchEqual, "mode", "idle")
	o := objectOf(t, series)
	read := func(o object) (out []string, err error) {
		for _, metric := range []string{"cpu", "lat", "up", "none"} {
			m, found, err := o.metric(metric)
			if err != nil {
				return nil, err
			}
			state := "there"
			if m.LeftOut {
				state = "left out"
			} else if !found {
				state = "none"
			}
			out = append(out, metric, state)
			for _, ms := range [][]*labels.Matcher{nil, {idle}} {
				found, err := o.find(metric, ms...)
				if err != nil {
					return nil, err
				}
				out = append(out, text(found))
			}
		}
		return out, nil
	}
	want, err := read(o)
	require.NoError(t, err)
	require.Contains(t, want[2], "[3600000, 3600000] 3600000:4008000000000000")

	rng, corrupt := newRand(1), 0
	damaged := object{o.Object, bytes.Clone(o.bytes)}
	for i := range o.bytes {
		for _, flip := range []byte{1 << rng.IntN(8), 0xff} {
			damaged.bytes[i] ^= flip
			switch got, err := read(damaged); {
			case err == nil:
				require.Equal(t, want, got, "byte %d", i)
			case blockcolumns.IsCorrupt(err):
				corrupt++
			default:
				t.Fatalf("byte %d: %v", i, err)
			}
			damaged.bytes[i] = o.bytes[i]
		}
	}
	m, _, err := o.metric("up")
	require.NoError(t, err)
	require.EqualValues(t, 2*(m.Index.End-8+o.Directory), corrupt, "each byte but the magic and padding")
}
