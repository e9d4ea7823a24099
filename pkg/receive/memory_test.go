package receive

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

func TestBodiesOfTenants(t *testing.T) {
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

func TestReadWithin(t *testing.T) {
	b := newBodies(1<<20, 1<<20)
	for _, size := range []int{0, 1, 1000, 5000, 300_000} {
		s := growingShare{total: tenantBodies{b, "a"}, times: 2}
		buf := remotewrite.NewBuffer(10)
		require.NoError(t, readWithin(buf, strings.NewReader(strings.Repeat("x", size)), 300_000, &s))
		require.Equal(t, bytes.Repeat([]byte("x"), size), buf.B)
		require.Equal(t, 2*int64(cap(buf.B)), s.held)
		s.free()
		buf.Release()
	}
	s := growingShare{total: tenantBodies{b, "a"}, times: 2}
	buf := remotewrite.NewBuffer(10)
	var tooLarge *remotewrite.TooLargeError
	require.ErrorAs(t, readWithin(buf, strings.NewReader(strings.Repeat("x", 6000)), 5000, &s), &tooLarge)
	err := readWithin(buf, strings.NewReader(strings.Repeat("x", 1<<20)), 1<<30, &s)
	require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(err), "more than there is")
	s.free()
	require.Zero(t, b.held)
}
