package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// maxHops is how many queriers a request may pass. Queriers that all ask each
// other would otherwise ask along every path.
const maxHops = 8

// Why an endpoint is left out of requests.
var (
	errSelf = errors.New("this endpoint is the querier itself; it is left out")
	errLoop = errors.New("this querier asks here in its turn; it is left out of requests that come from there")
)

// route decides whether a request may go to the endpoint. skip says that nothing
// is missing without it: all that is behind it is asked by a querier that the
// request has passed. The returned context names this querier to the next.
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
		// Only an address behind which there are several can hide this querier.
		return ctx, false, fmt.Errorf("%w: an endpoint group of this querier has the querier itself among its addresses", storeapi.ErrInvalid)
	case slices.Contains(hops, e.self):
		return ctx, true, nil
	case remote != "" && slices.Contains(hops, remote):
		e.noteLoop()
		return ctx, true, nil
	case len(hops) >= maxHops:
		return ctx, false, fmt.Errorf("%w: the request has passed %d queriers; ask the stores from fewer", limit.ErrExceeded, maxHops)
	}
	return storeapi.WithHops(ctx, append(hops[:len(hops):len(hops)], e.self)), false, nil
}

func (e *Endpoint) instance() string {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.info.Instance
}

// isSelf says whether the endpoint is the querier that it belongs to.
func (e *Endpoint) isSelf() bool { return e.self != "" && e.instance() == e.self }

// noteLoop makes the loop visible, once in the log.
func (e *Endpoint) noteLoop() {
	if e.looped.CompareAndSwap(false, true) {
		e.logger.Warn("queriers ask each other, loop avoided", "address", e.name)
	}
}

// routing says why requests, or some of them, are not sent to the endpoint.
func (e *Endpoint) routing() error {
	switch {
	case e.isSelf():
		return errSelf
	case e.looped.Load():
		return errLoop
	}
	return nil
}
