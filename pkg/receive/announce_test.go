package receive

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

func TestInfo_AnnouncesWhatItServes(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	storetest.AnnouncesWhatItServes(t, m.RegisterGRPC)
	conn := storetest.Dial(t, func(srv *grpc.Server) { m.RegisterGRPC(srv) }, storerpc.ServerOptions()...)
	got, ws, err := storerpc.NewClient(conn, "node").TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Empty(t, got, "no tenant has written yet")
}
