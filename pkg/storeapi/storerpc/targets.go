package storerpc

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// targetsInFrame is how many targets are sent at once.
const targetsInFrame = 500

// RegisterTargets serves s as thanos.Targets.
func RegisterTargets(r grpc.ServiceRegistrar, s storeapi.TargetStore) {
	storepb.RegisterTargetsServer(r, &targetsServer{store: s})
}

type targetsServer struct{ store storeapi.TargetStore }

func (s *targetsServer) Targets(in *storepb.TargetsRequest, stream grpc.ServerStreamingServer[storepb.TargetsResponse]) error {
	if st := in.GetState(); st < storepb.TargetsRequest_ANY || st > storepb.TargetsRequest_DROPPED {
		return toStatus(fmt.Errorf("%w: there is no state %d of targets", storeapi.ErrInvalid, st))
	}
	r := &storeapi.TargetsRequest{
		State: storeapi.TargetState(in.GetState()), Partial: strategyFromWire(false, in.GetPartialResponseStrategy()),
	}
	found, ws, err := s.store.Targets(incoming(stream.Context()), r)
	if err != nil {
		return toStatus(err)
	}
	if err := sendWarnings("targets", r.Partial, ws, func(w string) error {
		return stream.Send(&storepb.TargetsResponse{Result: &storepb.TargetsResponse_Warning{Warning: w}})
	}); err != nil {
		return err
	}
	for d := range targetFrames(found) {
		if err := stream.Send(&storepb.TargetsResponse{Result: &storepb.TargetsResponse_Targets{Targets: d}}); err != nil {
			return fmt.Errorf("send targets: %w", err)
		}
	}
	return nil
}

// targetFrames is a sequence of at least one message.
func targetFrames(t storeapi.Targets) func(yield func(*storepb.TargetDiscovery) bool) {
	return func(yield func(*storepb.TargetDiscovery) bool) {
		if len(t.Active)+len(t.Dropped) == 0 && !yield(&storepb.TargetDiscovery{}) {
			return
		}
		for part := range slices.Chunk(t.Active, targetsInFrame) {
			d := &storepb.TargetDiscovery{}
			for _, a := range part {
				d.ActiveTargets = append(d.ActiveTargets, &storepb.ActiveTarget{
					DiscoveredLabels: labelsToWire(a.Discovered), Labels: labelsToWire(a.Labels),
					ScrapePool: a.ScrapePool, ScrapeUrl: a.ScrapeURL, GlobalUrl: a.GlobalURL,
					LastError: a.LastError, LastScrape: timeToWire(a.LastScrape), LastScrapeDuration: a.LastScrapeDuration,
					Health: storepb.ActiveTarget_TargetHealth(a.Health),
				})
			}
			if !yield(d) {
				return
			}
		}
		for part := range slices.Chunk(t.Dropped, targetsInFrame) {
			d := &storepb.TargetDiscovery{}
			for _, ls := range part {
				d.DroppedTargets = append(d.DroppedTargets, &storepb.DroppedTarget{DiscoveredLabels: labelsToWire(ls)})
			}
			if !yield(d) {
				return
			}
		}
	}
}

// Targets asks the remote server, which must offer the Targets service. It
// implements storeapi.TargetStore.
func (c *Client) Targets(ctx context.Context, r *storeapi.TargetsRequest) (storeapi.Targets, storeapi.Warnings, error) {
	in := &storepb.TargetsRequest{
		State: storepb.TargetsRequest_State(r.State), PartialResponseStrategy: strategyToWire(r.Partial),
	}
	var out storeapi.Targets
	var ws texts
	l := listing[*storepb.TargetsResponse]{
		doing: "fetch targets from " + c.name, budget: r.Budget,
		use: func(m *storepb.TargetsResponse) {
			if w := m.GetWarning(); w != "" {
				ws.add([]byte(w))
			}
			for _, a := range m.GetTargets().GetActiveTargets() {
				out.Active = append(out.Active, activeFromWire(a))
			}
			for _, d := range m.GetTargets().GetDroppedTargets() {
				out.Dropped = append(out.Dropped, labelTextFromWire(d.GetDiscoveredLabels()))
			}
		},
	}
	err := l.read(ctx, func(ctx context.Context) (grpc.ClientStream, error) {
		return c.targets.Targets(ctx, in, c.callOptions...)
	}, &storepb.TargetsResponse{})
	if err != nil {
		return storeapi.Targets{}, nil, err
	}
	out.Choose(r.State)
	return out, c.warnings(ws), nil
}

func activeFromWire(a *storepb.ActiveTarget) storeapi.ActiveTarget {
	out := storeapi.ActiveTarget{
		Discovered: labelTextFromWire(a.GetDiscoveredLabels()), Labels: labelTextFromWire(a.GetLabels()),
		ScrapePool: textFromWire(a.GetScrapePool()), ScrapeURL: textFromWire(a.GetScrapeUrl()), GlobalURL: textFromWire(a.GetGlobalUrl()),
		LastError: textFromWire(a.GetLastError()), LastScrape: timeFromWire(a.GetLastScrape()),
		LastScrapeDuration: numberFromWire(a.GetLastScrapeDuration()), Health: storeapi.TargetUnknown,
	}
	if h := a.GetHealth(); h == storepb.ActiveTarget_DOWN || h == storepb.ActiveTarget_UP {
		out.Health = storeapi.TargetHealth(h)
	}
	return out
}
