package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// AnnouncesWhatItServes compares the services that register adds to a server with
// those that its Info announces: a client calls no others. The component must be
// ready.
func AnnouncesWhatItServes(t testing.TB, register func(grpc.ServiceRegistrar)) {
	t.Helper()
	var served map[string]grpc.ServiceInfo
	conn := Dial(t, func(srv *grpc.Server) {
		register(srv)
		served = srv.GetServiceInfo()
	}, storerpc.ServerOptions()...)
	c := storerpc.NewClient(conn, "component")
	require.NoError(t, c.Refresh(t.Context()))
	has := c.Services()
	for service, announced := range map[string]bool{
		"thanos.Store": has.Store, "thanos.Rules": has.Rules, "thanos.Metadata": has.Metadata, "thanos.Targets": has.Targets,
		"thanos.Exemplars": has.Exemplars, "thanos.Query": has.Query, "thanos.Status": has.Status,
	} {
		_, ok := served[service]
		require.Equal(t, ok, announced, "%s is announced: %t", service, announced)
	}
}
