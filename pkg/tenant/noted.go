package tenant

import (
	"context"
	"sync/atomic"
)

// Noted is the tenant that the handler of a request found, for the code around the
// handler, such as the access log. It may be used concurrently.
type Noted struct{ id atomic.Pointer[string] }

type notedKey struct{}

// WithNoted returns ctx with a place for the tenant, which NewContext and Note fill; all
// code around one handler has the same.
func WithNoted(ctx context.Context) (context.Context, *Noted) {
	if n, ok := ctx.Value(notedKey{}).(*Noted); ok {
		return ctx, n
	}
	n := &Noted{}
	return context.WithValue(ctx, notedKey{}, n), n
}

// Note reports the tenant of the request of ctx to the code around its handler, if that
// wants to know.
func Note(ctx context.Context, id string) {
	if n, ok := ctx.Value(notedKey{}).(*Noted); ok {
		n.id.Store(&id)
	}
}

// Tenant returns the tenant, "" when none was found.
func (n *Noted) Tenant() string {
	if id := n.id.Load(); id != nil {
		return *id
	}
	return ""
}
