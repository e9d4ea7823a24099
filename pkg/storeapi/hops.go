package storeapi

import "context"

type hopsKey struct{}

// WithHops returns ctx with the instances of the queriers that a request has
// passed, in this order, so that one that finds itself, or another that asks it,
// among its stores does not ask in a circle. hops must not be changed any more.
func WithHops(ctx context.Context, hops []string) context.Context {
	return context.WithValue(ctx, hopsKey{}, hops)
}

// Hops are those of WithHops; none for a request that begins here.
func Hops(ctx context.Context) []string {
	hops, _ := ctx.Value(hopsKey{}).([]string)
	return hops
}
