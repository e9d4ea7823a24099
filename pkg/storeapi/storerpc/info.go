package storerpc

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// Services are the gRPC services of a server. Info announces them, and a client
// must not call others.
type Services struct {
	Store, Rules, Metadata, Targets, Exemplars, Query, Status bool
}

// InfoConfig is the content of the Info service of a server.
type InfoConfig struct {
	// Info describes the data.
	Info func() storeapi.Info
	// InfoTo, if not nil, is used instead of Info: it describes the data to a
	// client that may itself be one of the sources, see storeapi.Hops.
	InfoTo func(ctx context.Context) storeapi.Info
	// Instance identifies the server to a client that may be the same process;
	// empty for servers that ask no others.
	Instance string
	// Services are those that the server has.
	Services Services
	// Ready makes the call fail while it returns an error; nil means always
	// ready.
	Ready func() error
}

// RegisterInfo serves thanos.info.Info.
func RegisterInfo(r grpc.ServiceRegistrar, cfg InfoConfig) {
	infopb.RegisterInfoServer(r, &infoServer{cfg: cfg})
}

type infoServer struct{ cfg InfoConfig }

func (s *infoServer) Info(ctx context.Context, _ *infopb.InfoRequest) (*infopb.InfoResponse, error) {
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			return nil, status.Error(codes.Unknown, errorid.Text("Not ready: "+err.Error(), cmp.Or(errorid.Of(err), errorid.NotReady)))
		}
	}
	if s.cfg.Instance != "" {
		if err := grpc.SetHeader(ctx, metadata.Pairs(instanceKey, s.cfg.Instance)); err != nil {
			return nil, fmt.Errorf("send the instance: %w", err)
		}
	}
	if s.cfg.InfoTo != nil {
		return infoToWire(s.cfg.InfoTo(incoming(ctx)), s.cfg.Services), nil
	}
	return infoToWire(s.cfg.Info(), s.cfg.Services), nil
}

// infoToWire sets the message of every API that there is, empty or not: its
// presence is what counts.
func infoToWire(info storeapi.Info, has Services) *infopb.InfoResponse {
	out := &infopb.InfoResponse{ComponentType: info.Component}
	for _, ls := range info.LabelSets {
		if !ls.IsEmpty() {
			out.LabelSets = append(out.LabelSets, labelsToWire(ls))
		}
	}
	if has.Store {
		out.Store = &infopb.StoreInfo{
			MinTime:                      info.MinTime,
			MaxTime:                      info.MaxTime,
			SupportsSharding:             info.SupportsSharding,
			SupportsWithoutReplicaLabels: info.SupportsWithoutReplicaLabels,
		}
		if info.SupportsSortWithout {
			addTrue(out.Store, supportsSortWithoutField)
		}
		for _, t := range info.TSDBs {
			out.Store.TsdbInfos = append(out.Store.TsdbInfos, &infopb.TSDBInfo{
				Labels: labelsToWire(t.Labels), MinTime: t.MinTime, MaxTime: t.MaxTime,
			})
		}
	}
	addNames(out, warningsField, info.Warnings)
	if info.Evaluates != "" {
		addNames(out, evaluatesField, []string{info.Evaluates})
	}
	if has.Rules {
		out.Rules = &infopb.RulesInfo{}
	}
	if has.Metadata {
		out.MetricMetadata = &infopb.MetricMetadataInfo{}
	}
	if has.Targets {
		out.Targets = &infopb.TargetsInfo{}
	}
	if has.Exemplars {
		out.Exemplars = &infopb.ExemplarsInfo{MinTime: info.MinTime, MaxTime: info.MaxTime}
	}
	if has.Query {
		out.Query = &infopb.QueryAPIInfo{}
	}
	if has.Status {
		out.Status = &infopb.StatusInfo{}
	}
	return out
}

// infoFromWire converts an answer. The services are those whose message is present.
func infoFromWire(in *infopb.InfoResponse) (storeapi.Info, Services) {
	info := unknownInfo()
	info.Component = strings.ToValidUTF8(in.GetComponentType()[:min(len(in.GetComponentType()), maxComponent)], "\uFFFD")
	var ignored int
	info.LabelSets, ignored = labelSetsFromWire(in.GetLabelSets())
	info.NoStore = in.GetStore() == nil
	info.Warnings, info.Evaluates = readWarnings(in), readEvaluates(in)
	if s := in.GetStore(); s != nil {
		info.MinTime, info.MaxTime = s.GetMinTime(), s.GetMaxTime()
		info.SupportsSharding = s.GetSupportsSharding()
		info.SupportsWithoutReplicaLabels = s.GetSupportsWithoutReplicaLabels()
		info.SupportsSortWithout = readBool(s, supportsSortWithoutField)
		for _, t := range s.GetTsdbInfos() {
			ls, whole := usableLabels(t.GetLabels())
			if !whole {
				ignored++
			}
			info.TSDBs = append(info.TSDBs, storeapi.TSDBInfo{Labels: ls, MinTime: t.GetMinTime(), MaxTime: t.GetMaxTime()})
		}
	}
	if ignored > 0 {
		info.Warnings = append(info.Warnings, fmt.Sprintf("%d label sets of the announcement have labels without a name or that are not valid UTF-8; these labels are ignored", ignored))
	}
	return info, Services{
		Store:     in.GetStore() != nil,
		Rules:     in.GetRules() != nil,
		Metadata:  in.GetMetricMetadata() != nil,
		Targets:   in.GetTargets() != nil,
		Exemplars: in.GetExemplars() != nil,
		Query:     in.GetQuery() != nil,
		Status:    in.GetStatus() != nil,
	}
}

// labelSetsFromWire converts the announced label sets without their unusable labels, so
// that a set stands for more series than before: the store is still asked for those that it
// may have. A set of which nothing is left stands for all series, which no sets say.
// ignored counts the sets that lost labels.
func labelSetsFromWire(in []*labelpb.ZLabelSet) (out []labels.Labels, ignored int) {
	all := false
	for _, set := range in {
		ls, whole := usableLabels(set)
		if !whole {
			ignored++
		}
		if !ls.IsEmpty() {
			out = append(out, ls)
		}
		all = all || !whole && ls.IsEmpty()
	}
	if all {
		return nil, ignored
	}
	return out, ignored
}

// unknownInfo is a store of which nothing is known: it may have anything.
func unknownInfo() storeapi.Info {
	return storeapi.Info{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
}
