package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// maxHops bounds the queriers that a request passes.
const maxHops = 8

// Reasons for skipping an endpoint.
var (
	errSelf = errors.New("endpoint is the querier itself and is skipped")
	errLoop = errors.New("query loop: the endpoint is a querier that asks this one; its requests are not sent back to it")
)

// route decides whether a request may go to the endpoint. skip means that the
// answer is complete without it: a querier that the request has passed asks it, or the
// stores behind it. The returned context names this querier to the next.
func (e *Endpoint) route(ctx context.Context) (next context.Context, skip bool, err error) {
	if e.self == "" {
		return ctx, false, nil
	}
	hops := storeapi.Hops(ctx)
	remote := e.instance()
	switch {
	case remote == e.self:
		return ctx, true, nil
	case len(hops) > 0 && hops[len(hops)-1] == e.self:
		// Only an endpoint group, with several servers behind one address, can
		// contain this querier unnoticed.
		return ctx, false, fmt.Errorf("%w: an endpoint group of this querier has the querier itself among its addresses", storeapi.ErrInvalid)
	case slices.Contains(hops, e.self):
		return ctx, true, nil
	case remote != "" && slices.Contains(hops, remote):
		e.noteLoop()
		return ctx, true, nil
	case remote != "" && slices.Contains(storeapi.Asked(ctx), remote):
		return ctx, true, nil
	case len(hops) >= maxHops:
		return ctx, false, fmt.Errorf("%w: the request has passed %d queriers; ask the stores from fewer", limit.ErrExceeded, maxHops)
	}
	return storeapi.WithHops(ctx, append(hops[:len(hops):len(hops)], e.self)), false, nil
}

// Skips reports whether a request with the context is complete without the
// endpoint, and why.
func (e *Endpoint) Skips(ctx context.Context) (reason.Reason, bool) {
	_, skip, err := e.route(ctx)
	remote := e.instance()
	switch {
	case !skip || err != nil:
		return "", false
	case e.isSelf():
		return reason.StoreIsSelf, true
	case !slices.Contains(storeapi.Hops(ctx), e.self) && !slices.Contains(storeapi.Hops(ctx), remote):
		return reason.StoreAskedElsewhere, true
	}
	return reason.StoreInLoop, true
}

// Querier is the instance of the querier that a request to the endpoint would reach now;
// empty when there is none.
func (e *Endpoint) Querier() string {
	if e.Reachable() != nil {
		return ""
	}
	return e.instance()
}

func (e *Endpoint) instance() string {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.info.Instance
}

// isSelf reports whether the endpoint is the querier that it belongs to.
func (e *Endpoint) isSelf() bool { return e.self != "" && e.instance() == e.self }

// noteLoop logs the loop once.
func (e *Endpoint) noteLoop() {
	if e.looped.CompareAndSwap(false, true) {
		e.logger.Warn("routing loop detected", "address", e.name)
	}
}

// routing returns the reason why some or all requests are not sent to the
// endpoint, or nil.
func (e *Endpoint) routing() error {
	switch {
	case e.isSelf():
		return errSelf
	case e.looped.Load():
		return errLoop
	}
	return nil
}
