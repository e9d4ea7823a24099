package store

import (
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// RegisterGRPC adds the Store and the Info service.
func (g *Gateway) RegisterGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, g.Store(), storerpc.ServerConfig{RejectUnknownHints: true, AnswerLabelHints: true})
	storerpc.RegisterInfo(r, storerpc.InfoConfig{Info: g.Info, Ready: g.Ready, Services: storerpc.Services{Store: true}})
}
