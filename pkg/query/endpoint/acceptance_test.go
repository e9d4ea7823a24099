package endpoint

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// An endpoint over a connection passes the acceptance suite of stores.
func TestEndpoint_IsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		served := storetest.NewFake(t, data)
		conn := storetest.Dial(t, func(srv *grpc.Server) {
			storerpc.RegisterStore(srv, served, storerpc.ServerConfig{})
			storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: served.Info, Services: storerpc.Services{Store: true}})
		}, storerpc.ServerOptions()...)
		e := &Endpoint{
			name: "store.example:10901", self: "querier", logger: slog.New(slog.DiscardHandler),
			client: remote{Client: storerpc.NewClient(conn, "store.example:10901"), conn: conn},
		}
		require.True(t, e.refresh(t.Context(), time.Minute, time.Now))
		return e
	})
}
