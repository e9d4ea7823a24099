package storerpc

import (
	"context"
	"slices"

	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Metadata keys of the protocol.
const (
	tenantKey = "thanos-tenant"
	// Ours; others ignore them. instanceKey is in the answer to Info, hopsKey in
	// requests, once for each querier that they have passed, askedKey once for each
	// querier that these ask themselves.
	instanceKey = "hindsight-instance"
	hopsKey     = "hindsight-hop"
	askedKey    = "hindsight-asked"
	// onlyTenantKey restricts data without tenant labels to that of the tenant.
	// Servers that do not know it answer for all tenants.
	onlyTenantKey = "hindsight-only-tenant"
)

// maxHops, maxAsked and maxInstance bound the names of queriers in the metadata of a
// request. A querier forwards fewer hops. One that is not in the list of those that are
// asked may be asked twice, which changes no answer.
const (
	maxHops     = 16
	maxAsked    = 256
	maxInstance = 64
)

// outgoing puts tenant, request id and hops of ctx into the metadata of a call.
func outgoing(ctx context.Context) context.Context {
	var kv []string
	if id := tenant.FromContext(ctx); id != "" {
		kv = append(kv, tenantKey, id)
		if tenant.Only(ctx) {
			kv = append(kv, onlyTenantKey, "true")
		}
	}
	if id := requestid.FromContext(ctx); id != "" {
		kv = append(kv, requestid.MetadataKey, id)
	}
	for _, hop := range storeapi.Hops(ctx) {
		kv = append(kv, hopsKey, hop)
	}
	asking := storeapi.Asking(ctx)
	for _, id := range asking[:min(len(asking), maxAsked)] {
		kv = append(kv, askedKey, id)
	}
	if len(kv) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, kv...)
}

// validTenants accepts one tenant, and several separated by |.
func validTenants(id string) bool {
	return !slices.ContainsFunc(tenant.Split(id), func(one string) bool { return tenant.Validate(one) != nil })
}

// instances shortens the names of queriers to their bound.
func instances(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, n[:min(len(n), maxInstance)])
	}
	return out
}

// incoming puts tenant, request id and hops of a call's metadata into its context.
// A tenant that is not valid counts as none: it informs limits and metrics, and can
// only ever take something away from an answer. A request without a valid id keeps that
// of the access log, or gets one.
func incoming(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	id, only := tenant.Default, len(md.Get(onlyTenantKey)) > 0
	if only {
		id = "" // no tenant: a name that is not valid sees nothing
	}
	if v := md.Get(tenantKey); len(v) > 0 && validTenants(v[0]) {
		id = v[0]
	}
	ctx = tenant.NewContext(ctx, id)
	if only {
		ctx = tenant.NewOnlyContext(ctx)
	}
	sent := ""
	if v := md.Get(requestid.MetadataKey); len(v) > 0 {
		sent = v[0]
	}
	request := requestid.FromContext(ctx)
	if request == "" {
		request = requestid.Accept(sent)
	}
	if hops := md.Get(hopsKey); len(hops) > 0 {
		ctx = storeapi.WithHops(ctx, instances(hops[max(0, len(hops)-maxHops):]))
	}
	if asked := md.Get(askedKey); len(asked) > 0 {
		ctx = storeapi.WithAsked(ctx, instances(asked[:min(len(asked), maxAsked)]))
	}
	return requestid.NewContext(ctx, request)
}
