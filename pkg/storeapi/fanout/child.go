package fanout

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// asking is one request on its way to many stores.
type asking struct {
	store *Store
	r     *storeapi.Request
	// outer is the context of the caller. inner also ends, with the error as its
	// cause, when one store fails and the request refuses partial answers: the
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
	cancel  context.CancelCauseFunc
	targets []target
}

// OriginName implements storeapi.OriginSet.
func (s *answerSet) OriginName(origin uint16) string {
	if i := int(origin) - 1; i >= 0 && i < len(s.targets) {
		return s.targets[i].name
	}
	return ""
}

func (s *answerSet) Close() error {
	s.cancel(context.Canceled)
	return s.SeriesSet.Close()
}

// open asks one store, and does the parts of the request that it does not support.
// origin is its place among all that are asked, from 1 on.
func (a *asking) open(t target, origin int) storeapi.SeriesSet {
	r := *a.r
	r.Matchers = t.widened(a.r)
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
	if !t.info.SupportsSortWithout {
		r.SortWithout = nil
	}
	set := a.arrange(t, t.store.Select(a.inner, &r))
	c := &childSet{SeriesSet: set, asking: a, name: t.name, origin: uint16(min(origin, math.MaxUint16))}
	if set.all && set.Err() != nil {
		_ = c.failure(set.Err()) // lets the other stores know at once
	}
	if shardHere {
		c.SeriesSet = storeapi.Cut{Shard: a.r.Shard}.Apply(set)
	}
	return c
}

// childSet turns the failure of one store into a warning or an error of the whole.
type childSet struct {
	storeapi.SeriesSet
	asking *asking
	name   string
	origin uint16

	ended   bool
	err     error
	warning storeapi.Warnings
	// chunks is the memory of At.
	chunks []storeapi.Chunk
	// illegible counts series whose labels are not UTF-8, and example is one of
	// them.
	illegible int
	example   string
}

// Next advances to the next series whose labels are valid UTF-8; others are counted,
// and named in a warning at the end. At the end it turns an error of the store into
// a warning or, with PartialAbort, into the error of the request. A cancelled or
// expired request is no failure of the store.
func (c *childSet) Next() bool {
	if c.ended {
		return false
	}
	for c.SeriesSet.Next() {
		if legible(c.SeriesSet.At().Labels) {
			return true
		}
		if c.illegible == 0 {
			c.example = c.SeriesSet.At().Labels.String()
		}
		c.illegible++
	}
	c.ended = true
	c.warning = sourced(c.SeriesSet.Warnings(), c.name)
	if c.illegible > 0 {
		c.warning = append(c.warning, storeapi.Warning{Source: c.name, Text: fmt.Sprintf(
			"store %s: left out %d series whose labels are not valid UTF-8, such as %s", c.name, c.illegible, cut(c.example))})
	}
	err := c.SeriesSet.Err()
	if outer := endOf(c.asking.outer, err); outer != nil {
		// The caller has gone, or its time is over: no store has failed.
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
	case c.asking.r.Partial == storeapi.PartialAbort:
		if i := slices.IndexFunc(c.warning, func(w storeapi.Warning) bool { return !w.IsCollision() }); i >= 0 {
			c.err = fmt.Errorf("%w: %s", storeapi.ErrPartial, c.warning[i].Text)
		}
	}
	return false
}

// clockSlack is how much earlier than ctx a store may see the end of its time.
const clockSlack = 50 * time.Millisecond

// endOf returns why ctx has ended, or nil. A store that was given the deadline of
// ctx may report its end a moment before ctx itself ends.
func endOf(ctx context.Context, err error) error {
	if at, ok := ctx.Deadline(); ok && err != nil && time.Until(at) < clockSlack {
		<-ctx.Done()
	}
	return ctx.Err()
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

// At implements storeapi.SeriesSet: each chunk says which store it is from.
func (c *childSet) At() storeapi.Series {
	at := c.SeriesSet.At()
	c.chunks = append(c.chunks[:0], at.Chunks...)
	for i := range c.chunks {
		c.chunks[i].Raw.Origin = c.origin
	}
	at.Chunks = c.chunks
	return at
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

// sourced adds the name of the store to warnings without a source.
func sourced(ws storeapi.Warnings, name string) storeapi.Warnings {
	out := make(storeapi.Warnings, 0, len(ws))
	for _, w := range ws {
		if w.Source == "" {
			w.Source = name
		}
		w.Text = strings.ToValidUTF8(w.Text, "\uFFFD")
		out = append(out, w)
	}
	return out
}

// legible reports whether all labels are UTF-8. Neither JSON nor protobuf can
// carry others.
func legible(ls labels.Labels) bool {
	ok := true
	ls.Range(func(l labels.Label) {
		ok = ok && utf8.ValidString(l.Name) && utf8.ValidString(l.Value)
	})
	return ok
}

// cut shortens a text for a message.
func cut(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
