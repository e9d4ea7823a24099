package receive

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// distribute writes a batch to the ring, or to this node when there is none. The
// error counts the items that were stored, and includes the series that decoding and
// relabelling rejected.
func (r *Receive) distribute(ctx context.Context, id string, b *remotewrite.Batch, replica int) error {
	var one [1]replicate.Request // of most writes, without an allocation
	all, made, err := r.requests(id, b, one[:0])
	if err != nil {
		return withLeftOut(id, b, err)
	}
	if made {
		defer func() {
			for _, q := range all {
				q.Batch.Close()
			}
		}()
	}
	reqs, above := r.withinLimits(all)
	switch {
	case above != nil && len(reqs) == 0:
		return withLeftOut(id, b, above)
	case r.writer == nil:
		err = r.storeHere(ctx, reqs)
	default:
		described := r.describe(reqs)
		err = withDescribed(described, r.writer.Write(ctx, reqs, replica), reqs)
	}
	return withLeftOut(id, b, withAbove(above, err, reqs))
}

// requests relabels the batch and splits it by tenant where configured, and sorts
// the labels of its series for the ring. It appends the result to reqs. The caller
// closes the batches of the requests when made is true.
func (r *Receive) requests(id string, b *remotewrite.Batch, reqs []replicate.Request) (all []replicate.Request, made bool, err error) {
	if len(*r.relabel.Load()) > 0 || r.cfg.SplitTenantLabel != "" {
		groups, err := r.rewrite(id, b)
		if err != nil {
			return nil, false, err
		}
		for group, batch := range groups {
			reqs = append(reqs, replicate.Request{Tenant: group, Batch: batch})
		}
		if len(b.Metadata()) > 0 {
			reqs = append(reqs, replicate.Request{Tenant: id, Batch: b.OnlyMetadata()})
		}
		return reqs, true, nil
	}
	normal := b
	if r.writer != nil {
		// The ring hashes labels in the order of the request.
		if normal, err = remotewrite.Normalize(b); err != nil {
			return nil, false, err
		}
	}
	return append(reqs, replicate.Request{Tenant: id, Batch: normal}), normal != b, nil
}

// describe stores the metadata of the requests on this node, as queries ask all
// nodes; a router forwards it with the write. A tenant that this node does not accept
// is no error when there are series, which the ring accepts or not.
func (r *Receive) describe(reqs []replicate.Request) (first error) {
	if _, self := r.writer.Rings(); self == "" {
		return nil
	}
	for _, q := range reqs {
		err := r.db.SetMetadata(q.Tenant, q.Batch.Metadata())
		if err != nil && first == nil && (q.Batch.Len() == 0 || remotewrite.KindOf(err) == remotewrite.Invalid) {
			first = err
		}
	}
	return first
}

// withDescribed returns the error of the write, or else that of its metadata.
func withDescribed(described, err error, reqs []replicate.Request) error {
	if err != nil || described == nil {
		return err
	}
	var all remotewrite.Counts
	for _, q := range reqs {
		all = all.Plus(q.Batch.Counts())
	}
	return &remotewrite.WriteError{Kind: remotewrite.KindOf(described), Err: described, Stored: &all}
}

// storeHere stores the requests on this node. The error is the one of the highest
// kind, with the counts of all that was stored.
func (r *Receive) storeHere(ctx context.Context, reqs []replicate.Request) error {
	var (
		worst  error
		stored remotewrite.Counts
	)
	for _, q := range reqs {
		err := r.db.Write(ctx, q.Tenant, q.Batch, nil)
		stored = stored.Plus(remotewrite.StoredOf(err, q.Batch.Counts()))
		if err != nil && (worst == nil || remotewrite.KindOf(err) > remotewrite.KindOf(worst)) {
			worst = err
		}
	}
	if worst != nil && len(reqs) > 1 {
		return &remotewrite.WriteError{Kind: remotewrite.KindOf(worst), Err: worst, Stored: &stored}
	}
	return worst
}

// rewrite applies the relabelling rules and groups the series by tenant.
func (r *Receive) rewrite(id string, b *remotewrite.Batch) (map[string]*remotewrite.Batch, error) {
	builder, rules := labels.NewBuilder(labels.EmptyLabels()), *r.relabel.Load()
	return remotewrite.Rewrite(b, func(ls labels.Labels) (labels.Labels, string, bool, error) {
		builder.Reset(ls)
		if len(rules) > 0 && !relabel.ProcessBuilder(builder, rules...) {
			return ls, "", false, nil
		}
		group := id
		if name := r.cfg.SplitTenantLabel; name != "" {
			if v := builder.Get(name); v != "" {
				if err := tenant.Validate(v); err != nil {
					return ls, "", false, remotewrite.Errorf(remotewrite.Invalid, "label %s: %w", name, err)
				}
				group = strings.Clone(v)
				builder.Del(name)
			}
		}
		out := builder.Labels()
		return out, group, !out.IsEmpty(), nil
	})
}

// withLeftOut adds the series that decoding and relabelling rejected to the error of
// writing the rest.
func withLeftOut(id string, b *remotewrite.Batch, err error) error {
	leftOut := b.Rejected(id)
	if err == nil || leftOut == nil {
		return cmp.Or(err, leftOut)
	}
	stored := remotewrite.StoredOf(err, b.Counts())
	return &remotewrite.WriteError{
		Kind: remotewrite.KindOf(err), Stored: &stored, Err: fmt.Errorf("%w; and %w", err, leftOut),
	}
}
