// Package abort lets the code that computes an answer end the whole call, even
// while the call waits for its client to read.
package abort

import "context"

type key struct{}

// With returns a context that ends when the returned function is called with the
// reason, which is then its cause, and which From finds.
func With(ctx context.Context) (context.Context, func(error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	return context.WithValue(ctx, key{}, cancel), cancel
}

// From returns the function that ends the call of ctx, nil where there is none. It
// may be called at any time, concurrently, also after the call.
func From(ctx context.Context) func(error) {
	cancel, _ := ctx.Value(key{}).(context.CancelCauseFunc)
	return cancel
}
