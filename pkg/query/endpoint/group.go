package endpoint

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

// groupScheme is the scheme of gRPC targets that are endpoint groups.
const groupScheme = "hindsight"

// groupBuilder resolves the name of an endpoint group for gRPC, with the same
// lookups as single endpoints.
type groupBuilder struct {
	resolver Resolver
	interval time.Duration
}

func (b groupBuilder) Scheme() string { return groupScheme }

func (b groupBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	kind, name, err := splitAddress(target.Endpoint())
	if err != nil {
		return nil, err
	}
	if kind == lookupNone {
		kind = lookupDNS
	}
	done := make(chan struct{})
	g := &groupResolver{builder: b, kind: kind, name: name, cc: cc, done: done, now: make(chan struct{}, 1)}
	g.wg.Go(g.run)
	return g, nil
}

type groupResolver struct {
	builder groupBuilder
	kind    lookup
	name    string
	cc      resolver.ClientConn
	now     chan struct{}
	done    chan struct{}
	wg      sync.WaitGroup
}

// minGroupInterval bounds how often gRPC may ask for another lookup.
const minGroupInterval = time.Second

func (g *groupResolver) run() {
	for {
		g.lookup(untilDone{g.done})
		pause := time.NewTimer(minGroupInterval)
		select {
		case <-pause.C:
		case <-g.done:
			pause.Stop()
			return
		}
		next := time.NewTimer(g.builder.interval)
		select {
		case <-next.C:
		case <-g.now:
		case <-g.done:
			next.Stop()
			return
		}
		next.Stop()
	}
}

func (g *groupResolver) lookup(ctx context.Context) {
	addrs, err := resolve(ctx, g.builder.resolver, g.kind, g.name)
	if err != nil {
		g.cc.ReportError(err)
		return
	}
	state := resolver.State{}
	for _, a := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	// An error asks for another lookup, which comes anyway.
	_ = g.cc.UpdateState(state)
}

// ResolveNow implements resolver.Resolver.
func (g *groupResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case g.now <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (g *groupResolver) Close() {
	close(g.done)
	g.wg.Wait()
}

// untilDone is a context that ends when a channel is closed. gRPC gives its
// resolvers no context, only Close.
type untilDone struct{ done <-chan struct{} }

func (u untilDone) Deadline() (time.Time, bool) { return time.Time{}, false }
func (u untilDone) Done() <-chan struct{}       { return u.done }
func (u untilDone) Value(any) any               { return nil }

func (u untilDone) Err() error {
	select {
	case <-u.done:
		return context.Canceled
	default:
		return nil
	}
}
