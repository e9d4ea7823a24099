package grpcsnappy_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
)

func TestRegister_RoundTripThroughPools(t *testing.T) {
	grpcsnappy.Register()
	grpcsnappy.Register()
	c := encoding.GetCompressor(grpcsnappy.Name)
	require.NotNil(t, c)
	for _, text := range []string{"", "a", strings.Repeat("abc", 100_000), "last"} {
		var b bytes.Buffer
		w, err := c.Compress(&b)
		require.NoError(t, err)
		_, err = io.WriteString(w, text)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		r, err := c.Decompress(&b)
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
		require.NoError(t, r.(io.Closer).Close())
	}
}
