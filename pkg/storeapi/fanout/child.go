package fanout

import (
	"context"
	"fmt"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// open asks one store and does for it what it cannot do itself.
func (s *Store) open(ctx context.Context, t target, r *storeapi.Request) storeapi.SeriesSet {
	cr := *r
	cr.Matchers = t.ms
	cr.BlockMatchers, cr.StoreMatchers = nil, nil
	// A store that keeps the replica labels would count and divide other label
	// sets than those of the answer.
	dropHere := len(r.WithoutReplicaLabels) > 0 && !t.info.SupportsWithoutReplicaLabels
	shardHere := r.Shard != nil && (dropHere || !t.info.SupportsSharding)
	if dropHere {
		cr.WithoutReplicaLabels = nil
	}
	if shardHere {
		cr.Shard = nil
	}
	if dropHere || shardHere {
		cr.Limit = 0
	}
	set := t.store.Select(ctx, &cr)
	if t.info.SupportsWithoutReplicaLabels {
		set = s.inOrder(set, t.name)
	} else {
		// The promise of the order came into the protocol with this capability.
		set = sorted(set, r.WithoutReplicaLabels)
	}
	if shardHere {
		set = storeapi.ShardSet(set, r.Shard)
	}
	return &childSet{SeriesSet: set, store: s, ctx: ctx, name: t.name, partial: r.Partial}
}

// childSet decides what the failure of one store means for the whole.
type childSet struct {
	storeapi.SeriesSet
	store   *Store
	ctx     context.Context
	name    string
	partial storeapi.PartialResponse

	ended   bool
	err     error
	warning storeapi.Warnings
}

func (c *childSet) Next() bool {
	if c.ended {
		return false
	}
	if c.SeriesSet.Next() {
		return true
	}
	c.ended = true
	c.warning = sourced(c.SeriesSet.Warnings(), c.name)
	err := c.SeriesSet.Err()
	switch {
	case c.ctx.Err() != nil:
		// Who asked has gone, or its time is over: no store is to blame.
		if c.err = err; err == nil {
			c.err = c.ctx.Err()
		}
	case err != nil && c.partial == storeapi.PartialAbort:
		c.store.metrics.failures.Inc()
		c.err = fmt.Errorf("%w: %w", storeapi.ErrPartial, nameError("receive series from", c.name, err))
	case err != nil:
		c.store.metrics.failures.Inc()
		c.warning = append(c.warning, storeapi.Warning{
			Source: c.name, Text: nameError("receive series from", c.name, err).Error(),
		})
	case len(c.warning) > 0 && c.partial == storeapi.PartialAbort:
		c.err = fmt.Errorf("%w: %s", storeapi.ErrPartial, c.warning[0].Text)
	}
	return false
}

func (c *childSet) Err() error                  { return c.err }
func (c *childSet) Warnings() storeapi.Warnings { return c.warning }

// nameError makes sure that the text says which store it is about.
func nameError(doing, name string, err error) error {
	if strings.Contains(err.Error(), name) {
		return err
	}
	return fmt.Errorf("%s %s: %w", doing, name, err)
}

// sourced gives warnings that do not say whose they are the name of the store.
func sourced(ws storeapi.Warnings, name string) storeapi.Warnings {
	out := make(storeapi.Warnings, 0, len(ws))
	for _, w := range ws {
		if w.Source == "" {
			w.Source = name
		}
		out = append(out, w)
	}
	return out
}
