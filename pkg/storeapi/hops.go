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

type (
	askedKey  struct{}
	askingKey struct{}
)

// WithAsked returns ctx with the instances of queriers that other queriers, which a
// request has passed, ask themselves for the same data: nothing is missing without them.
// asked must not be changed any more.
func WithAsked(ctx context.Context, asked []string) context.Context {
	return context.WithValue(ctx, askedKey{}, asked)
}

// Asked are those of WithAsked; none for a request that begins here.
func Asked(ctx context.Context) []string {
	asked, _ := ctx.Value(askedKey{}).([]string)
	return asked
}

// WithAsking returns ctx for the stores that a fan-out asks. The queriers among them must
// not ask the given instances of queriers: the fan-out asks them, or Asked names them.
func WithAsking(ctx context.Context, asking []string) context.Context {
	return context.WithValue(ctx, askingKey{}, asking)
}

// Asking are those of WithAsking, or those of Asked where no fan-out asks.
func Asking(ctx context.Context) []string {
	if asking, ok := ctx.Value(askingKey{}).([]string); ok {
		return asking
	}
	return Asked(ctx)
}
