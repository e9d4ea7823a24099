package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// labelBlocks is how many blocks one request for labels reads at a time.
const labelBlocks = 32

// LabelNames returns the label names of the blocks in the time range.
func (g *Gateway) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return g.labels(ctx, r, opLabelNames, func(ctx context.Context, br blockRequest, account *pagecache.Account) ([]string, error) {
		names, err := g.namesOf(ctx, br, account)
		if err != nil || len(names) == 0 {
			return nil, err
		}
		br.ext.Range(func(l labels.Label) { names = append(names, l.Name) })
		return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(r.WithoutReplicaLabels, n) }), nil
	})
}

// LabelValues returns the values of a label in the blocks in the time range.
func (g *Gateway) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	if name == "" {
		return nil, nil, fmt.Errorf("%w: label name is empty", storeapi.ErrInvalid)
	}
	if slices.Contains(r.WithoutReplicaLabels, name) {
		return nil, nil, nil
	}
	return g.labels(ctx, r, opLabelValues, func(ctx context.Context, br blockRequest, account *pagecache.Account) ([]string, error) {
		if v := br.ext.Get(name); v != "" {
			ok, err := g.anySeries(ctx, br, account)
			if err != nil || !ok {
				return nil, err
			}
			return []string{v}, nil
		}
		return g.valuesOf(ctx, name, br, r.Limit, account)
	})
}

// labels asks each block and joins the answers.
func (g *Gateway) labels(ctx context.Context, r *storeapi.Request, operation string,
	ask func(context.Context, blockRequest, *pagecache.Account) ([]string, error),
) ([]string, storeapi.Warnings, error) {
	g.m.requests.WithLabelValues(operation).Inc()
	g.begun.Add(1)
	brs, ws, err := g.blocksFor(r, false)
	if err != nil {
		return nil, nil, err
	}
	defer g.release(brs)
	var (
		mu      sync.Mutex
		all     = map[string]struct{}{}
		account = g.account()
	)
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(labelBlocks)
	for _, br := range brs {
		eg.Go(func() error {
			vs, err := ask(gctx, br, account)
			mu.Lock()
			defer mu.Unlock()
			for _, v := range vs {
				all[v] = struct{}{}
			}
			var failure *bucketblock.Error
			if errors.As(err, &failure) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				var w storeapi.Warnings
				w, err = g.blockFailed(failure, r.Partial)
				ws = append(ws, w...)
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		if errors.Is(err, limit.ErrExceeded) {
			g.m.limited.Inc()
		}
		return nil, nil, err
	}
	out := make([]string, 0, len(all))
	for v := range all {
		out = append(out, v)
	}
	slices.Sort(out)
	if r.Limit > 0 && len(out) > r.Limit {
		out = out[:r.Limit]
	}
	return out, ws, nil
}

func (g *Gateway) namesOf(ctx context.Context, br blockRequest, account *pagecache.Account) ([]string, error) {
	if len(br.matchers) == 0 {
		return br.block.LabelNames(ctx)
	}
	seen := map[string]struct{}{}
	err := eachSeries(ctx, br, account, 0, func(lset labels.Labels) {
		lset.Range(func(l labels.Label) { seen[l.Name] = struct{}{} })
	})
	out := make([]string, 0, len(seen))
	for n := range seen {
		out = append(out, n)
	}
	return out, err
}

func (g *Gateway) valuesOf(ctx context.Context, name string, br blockRequest, limit int, account *pagecache.Account) ([]string, error) {
	if len(br.matchers) == 0 {
		return br.block.LabelValues(ctx, name, limit)
	}
	br.matchers = append(slices.Clip(br.matchers), labels.MustNewMatcher(labels.MatchNotEqual, name, ""))
	seen := map[string]struct{}{}
	err := eachSeries(ctx, br, account, 0, func(lset labels.Labels) { seen[lset.Get(name)] = struct{}{} })
	out := make([]string, 0, len(seen))
	for v := range seen {
		out = append(out, v)
	}
	return out, err
}

// anySeries says whether a block has a matching series.
func (g *Gateway) anySeries(ctx context.Context, br blockRequest, account *pagecache.Account) (bool, error) {
	if len(br.matchers) == 0 {
		return true, nil
	}
	found := false
	err := eachSeries(ctx, br, account, 1, func(labels.Labels) { found = true })
	return found, err
}

// eachSeries calls f for the label sets of the matching series of the whole
// block, without external labels.
func eachSeries(ctx context.Context, br blockRequest, account *pagecache.Account, limit int, f func(labels.Labels)) (err error) {
	set := br.block.Select(ctx, &bucketblock.Query{
		Matchers: br.matchers, MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		SkipChunks: true, Limit: limit, BatchBytes: maxUncachedBatch, Account: account,
	})
	defer func() { err = errors.Join(err, set.Close()) }()
	for set.Next() {
		f(set.At().Labels)
	}
	return set.Err()
}
