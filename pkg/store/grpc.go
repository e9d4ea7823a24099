package store

import (
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// RegisterGRPC adds the Store and the Info service.
func (g *Gateway) RegisterGRPC(r grpc.ServiceRegistrar) {
	storerpc.RegisterStore(r, g.Store(), storerpc.ServerConfig{RejectUnknownHints: true, AnswerLabelHints: true})
	storerpc.RegisterInfo(r, storerpc.InfoConfig{Info: g.announced, Ready: g.Ready, Services: storerpc.Services{Store: true}})
}

// announced is Info with what only the process knows.
func (g *Gateway) announced() storeapi.Info {
	info := g.Info()
	info.Evaluates = g.deps.Evaluates
	return info
}
