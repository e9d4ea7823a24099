package receive

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

func TestBodies_LimitTenantToShare(t *testing.T) {
	b := newBodies(1000, 100)
	evil, good := tenantBodies{b, "evil"}, tenantBodies{b, "good"}
	require.True(t, evil.TryAcquire(250))
	require.False(t, evil.TryAcquire(1), "a quarter for each")
	require.True(t, good.TryAcquire(250))
	for _, more := range []string{"x", "y"} {
		require.True(t, tenantBodies{b, more}.TryAcquire(250))
	}
	require.False(t, tenantBodies{b, "z"}.TryAcquire(1), "all of it")
	evil.Release(250)
	require.True(t, tenantBodies{b, "z"}.TryAcquire(250))
	require.NotContains(t, b.of, "evil")
	require.True(t, tenantBodies{newBodies(1000, 600), "one"}.TryAcquire(600), "the largest body always fits")
}

func TestReadWithin_BoundsMemory(t *testing.T) {
	b := newBodies(1<<20, 1<<20)
	for _, size := range []int{0, 1, 1000, 5000, 300_000} {
		s := share{total: tenantBodies{b, "a"}, times: 2}
		buf := remotewrite.NewBuffer(10)
		require.NoError(t, readWithin(buf, strings.NewReader(strings.Repeat("x", size)), 300_000, &s))
		require.Equal(t, bytes.Repeat([]byte("x"), size), buf.B)
		require.Equal(t, 2*int64(cap(buf.B)), s.held)
		s.free()
		buf.Release()
	}
	s := share{total: tenantBodies{b, "a"}, times: 2}
	buf := remotewrite.NewBuffer(10)
	var tooLarge *remotewrite.TooLargeError
	require.ErrorAs(t, readWithin(buf, strings.NewReader(strings.Repeat("x", 6000)), 5000, &s), &tooLarge)
	err := readWithin(buf, strings.NewReader(strings.Repeat("x", 1<<20)), 1<<30, &s)
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(err), "more than there is")
	s.free()
	require.Zero(t, b.held)
}

func TestShare_ShrinkReturnsBytes(t *testing.T) {
	b := newBodies(1000, 1000)
	s := &share{total: tenantBodies{b, "a"}, times: 2}
	require.NoError(t, s.grow(300))
	require.EqualValues(t, 600, b.held)
	s.shrink(400) // it has less
	require.EqualValues(t, 600, b.held)
	s.shrink(100)
	require.EqualValues(t, 200, b.held)
	s.free()
	s.free()
	require.Zero(t, b.held)
	(*share)(nil).free()
}

// A request of remote write 2.0 holds the memory of its series, not the most that its
// symbols allow: many such requests can wait for a slow quorum.
func TestVersion2_HoldsMemoryOfItsSeriesOnly(t *testing.T) {
	cfg := DefaultConfig()
	m := start(t, cfg, listen(t), nil)
	raw, err := s2.Decode(nil, asVersion2(t, []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: strings.Repeat("x", 5000)}}, Samples: []prompb.Sample{{Timestamp: 1}},
	}}))
	require.NoError(t, err)
	body := &body{Buffer: remotewrite.NewBuffer(len(raw)), share: share{total: tenantBodies{m.bodies, "a"}}}
	body.B = append(body.B, s2.EncodeSnappy(nil, raw)...)
	b, memory, err := m.decode(t.Context(), "a", 2, body)
	require.NoError(t, err)
	require.Positive(t, memory.held)
	require.LessOrEqual(t, memory.held, int64(cap(b.Buffer().B)))
	b.Close()
	memory.free()
	require.True(t, m.memory.TryAcquire(cfg.MaxInflightBytes.Int64()), "all of it is back")
	m.memory.Release(cfg.MaxInflightBytes.Int64())
}
