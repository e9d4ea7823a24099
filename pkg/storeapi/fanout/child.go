package fanout

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// asking is one request on its way to many stores.
type asking struct {
	store *Store
	r     *storeapi.Request
	// outer is the context of who asked. inner also ends, with the error as its
	// cause, when one store fails and the request wants all or nothing: the
	// others need not go on.
	outer, inner context.Context
	cancel       context.CancelCauseFunc
}

func newAsking(ctx context.Context, s *Store, r *storeapi.Request) *asking {
	a := &asking{store: s, r: r, outer: ctx}
	a.inner, a.cancel = context.WithCancelCause(ctx)
	return a
}

// answerSet frees the context with the sets.
type answerSet struct {
	storeapi.SeriesSet
	cancel context.CancelCauseFunc
}

func (s *answerSet) Close() error {
	s.cancel(context.Canceled)
	return s.SeriesSet.Close()
}

// open asks one store and does for it what it cannot do itself.
func (a *asking) open(t target) storeapi.SeriesSet {
	r := *a.r
	r.Matchers = t.ms
	r.BlockMatchers, r.StoreMatchers = nil, nil
	// A store that keeps the replica labels would count and divide other label
	// sets than those of the answer.
	dropHere := len(r.WithoutReplicaLabels) > 0 && !t.info.SupportsWithoutReplicaLabels
	shardHere := r.Shard != nil && (dropHere || !t.info.SupportsSharding)
	if dropHere {
		r.WithoutReplicaLabels = nil
	}
	if shardHere {
		r.Shard = nil
	}
	if dropHere || shardHere {
		r.Limit = 0
	}
	var set *orderedSet
	if stream := t.store.Select(a.inner, &r); t.info.SupportsWithoutReplicaLabels {
		set = a.store.inOrder(stream, t.name)
	} else {
		// The promise of the order came into the protocol with this capability.
		set = sorted(stream, a.r.WithoutReplicaLabels)
	}
	c := &childSet{SeriesSet: set, asking: a, name: t.name}
	if set.all && set.Err() != nil {
		_ = c.failure(set.Err()) // lets the other stores know at once
	}
	if shardHere {
		c.SeriesSet = storeapi.ShardSet(set, a.r.Shard)
	}
	return c
}

// childSet decides what the failure of one store means for the whole.
type childSet struct {
	storeapi.SeriesSet
	asking *asking
	name   string

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
	if outer := c.asking.outer.Err(); outer != nil {
		// Who asked has gone, or its time is over: no store is to blame.
		c.err = cmp.Or(err, outer)
		return false
	}
	switch {
	case err != nil && c.asking.r.Partial == storeapi.PartialAbort:
		c.asking.store.metrics.failures.Inc()
		c.err = c.failure(err)
	case err != nil:
		c.asking.store.metrics.failures.Inc()
		c.warning = append(c.warning, storeapi.Warning{
			Source: c.name, Text: nameError("receive series from", c.name, err).Error(),
		})
	case len(c.warning) > 0 && c.asking.r.Partial == storeapi.PartialAbort:
		c.err = fmt.Errorf("%w: %s", storeapi.ErrPartial, c.warning[0].Text)
	}
	return false
}

// failure is the error of a request that wants all or nothing: that of the store
// that failed first, for the others are stopped because of it.
func (c *childSet) failure(err error) error {
	if c.asking.r.Partial != storeapi.PartialAbort {
		return nil
	}
	c.asking.cancel(fmt.Errorf("%w: %w", storeapi.ErrPartial, nameError("receive series from", c.name, err)))
	return context.Cause(c.asking.inner)
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
