package doctorhttp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/claim"
	"github.com/hindsight-io/hindsight/pkg/doctor"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// Look returns what a bucket and a listing of its blocks say of the sources: the blocks of
// the listing, and the claims and logs of Prometheus servers, which it reads. bad are
// errors of single claims, which are left out.
func Look(ctx context.Context, bkt bucket.Reader, view *blocklist.View) (in doctor.Input, bad []error, err error) {
	in.Now, in.Unusable = time.Now(), map[ulid.ULID]string{}
	for id, m := range view.Metas {
		if view.Deletion[id] == nil {
			in.Blocks = append(in.Blocks, m)
		}
	}
	for id, u := range view.Unusable {
		in.Unusable[id] = u.Reason.String()
	}
	if in.Claims, bad, err = claim.List(ctx, bkt); err != nil {
		return in, bad, err
	}
	in.Heads, err = heads(ctx, bkt)
	return in, bad, err
}

// heads lists the logs of Prometheus servers in the bucket.
func heads(ctx context.Context, bkt bucket.Reader) ([]doctor.Head, error) {
	var listing headlog.Listing
	err := bkt.List(ctx, headlog.Dir, func(o bucket.Object) error {
		listing.Add(o.Name, o.Size, o.LastModified)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the logs of Prometheus servers: %w", err)
	}
	var out []doctor.Head
	for _, g := range listing.Generations() {
		h := doctor.Head{Dir: g.Dir(), Modified: g.Modified}
		if g.HasInfo {
			data, err := bucket.ReadAll(ctx, bkt, g.Dir()+"/"+headlog.InfoName, headlog.MaxInfo)
			if err != nil && !errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrTooLarge) {
				return nil, err
			}
			// The labels of a malformed object are not known.
			if info, derr := headlog.DecodeInfo(g.Source, data); err == nil && derr == nil {
				h.Labels = labels.FromMap(info.Labels)
			}
		}
		out = append(out, h)
	}
	return out, nil
}
