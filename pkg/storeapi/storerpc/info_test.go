package storerpc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
)

func TestInfo_CarriesWarningsWithinBounds(t *testing.T) {
	through := func(warnings []string) []string {
		b, err := proto.Marshal(infoToWire(storeapi.Info{Component: "sidecar", Warnings: warnings}, Services{Store: true}))
		require.NoError(t, err)
		var in infopb.InfoResponse
		require.NoError(t, proto.Unmarshal(b, &in))
		info, has := infoFromWire(&in)
		require.Equal(t, "sidecar", info.Component)
		require.True(t, has.Store)
		return info.Warnings
	}
	require.Empty(t, through(nil))
	require.Equal(t, []string{"equal labels", "labels changed"}, through([]string{"equal labels", "labels changed"}))
	require.Equal(t, []string{"\ufffd"}, through([]string{"\xff"}))
	require.Len(t, through(make([]string, 100)), maxInfoWarnings)
	require.Len(t, through([]string{strings.Repeat("x", 1<<20)})[0], maxInfoWarningSize)
}
