package fanout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
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
	// trace is nil when nobody wants to know what the answers cost.
	trace *storeapi.TracedSelect
}

func newAsking(ctx context.Context, s *Store, r *storeapi.Request, targets []target) *asking {
	a := &asking{store: s, r: r, outer: ctx}
	a.inner, a.cancel = context.WithCancelCause(withAsked(ctx, storesOf(targets)))
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
	r.Partial = partialFor(t.store, a.r.Partial)
	r.WantStats = r.WantStats || a.trace != nil
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
	if len(r.SortWithout) == 0 && len(a.r.SortWithout) > 0 && r.Shard != nil {
		// It would divide other label sets: those without the replica labels.
		shardHere, r.Shard, r.Limit = true, nil, 0
	}
	ask := func(r *storeapi.Request) storeapi.SeriesSet { return t.store.Select(a.inner, r) }
	begin := time.Now()
	set, failed := a.arrange(t, &r, ask)
	if a.trace != nil {
		set = newTracedSet(set, a.trace, t.traced, begin)
	}
	c := &childSet{
		SeriesSet: set, asking: a, target: t, announced: newAnnounced(&t, a.r.WithoutReplicaLabels), partial: r.Partial,
		name: t.name, origin: uint16(min(origin, math.MaxUint16)),
	}
	if failed != nil {
		_ = c.failure(failed) // lets the other stores know at once
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
	target target
	*announced
	// partial is the policy for this store.
	partial storeapi.PartialResponse
	name    string
	origin  uint16

	ended   bool
	err     error
	warning storeapi.Warnings
	// chunks is the memory of At.
	chunks []storeapi.Chunk
	// legible is the last series whose labels are UTF-8.
	legible labels.Labels
	// illegible counts series whose labels are not UTF-8, and example is one of
	// them.
	illegible int
	example   string
	// foreign counts series that the request does not select, and stray is one of
	// them.
	foreign int
	stray   string
}

// Next advances to the next series whose labels are valid UTF-8 and satisfy the
// request; others are counted, and named in a warning at the end. At the end it turns an error of the store into
// a warning or, with PartialAbort, into the error of the request. A cancelled or
// expired request is no failure of the store.
func (c *childSet) Next() bool {
	if c.ended {
		return false
	}
	for c.SeriesSet.Next() {
		ls := c.SeriesSet.At().Labels
		if legible(c.legible, ls) {
			c.legible = ls
			if !c.expected(ls) {
				c.asking.store.markMislabeled(c.name, unannounced{ls, c.removed})
			}
			if c.selected(ls) {
				return true
			}
			if c.foreign == 0 {
				c.stray = ls.String()
			}
			c.foreign++
			continue
		}
		if c.illegible == 0 {
			c.example = c.SeriesSet.At().Labels.String()
		}
		c.illegible++
	}
	c.end()
	return false
}

// end turns the end of the stream into warnings or an error, and puts what is
// missing into the report of the request.
func (c *childSet) end() {
	c.ended = true
	report := storeapi.ReportFromContext(c.asking.outer)
	c.target.warn(c.asking.outer, c.asking.r, c.SeriesSet.Warnings())
	c.warning = sourced(c.SeriesSet.Warnings(), c.name)
	if c.illegible > 0 {
		text := fmt.Sprintf("store %s: left out %d series whose labels are not valid UTF-8, such as %s", c.name, c.illegible, cut(c.example))
		report.Miss(c.target.missing(c.asking.r, reason.StoreInvalidData, text))
		c.warning = append(c.warning, storeapi.Warning{Source: c.name, Text: text})
	}
	if c.foreign > 0 {
		text := fmt.Sprintf("store %s: left out %d series that the request does not select, such as %s", c.name, c.foreign, cut(c.stray))
		report.Miss(c.target.missing(c.asking.r, reason.StoreInvalidData, text))
		c.warning = append(c.warning, storeapi.Warning{Source: c.name, Text: text})
	}
	err := c.SeriesSet.Err()
	if outer := endOf(c.asking.outer, err); outer != nil {
		// The caller has gone, or its time is over: no store has failed.
		if errors.Is(outer, context.DeadlineExceeded) {
			report.Miss(c.target.missing(c.asking.r, reason.StoreTimeout, fmt.Sprintf("store %s had not sent all series when the time of the request was over", c.name)))
		}
		c.err = cmp.Or(err, outer)
		return
	}
	var refused refusedError
	switch {
	case errors.As(err, &refused):
		c.err = refused.error
	case err != nil && c.partial == storeapi.PartialAbort:
		c.asking.store.metrics.failures.Inc()
		c.err = c.failure(err)
	case err != nil:
		c.asking.store.metrics.failures.Inc()
		text := nameError("receive series from", c.name, err).Error()
		if context.Cause(c.asking.inner) == nil {
			report.Miss(c.target.missing(c.asking.r, storeapi.ReasonOf(err), text))
		}
		c.warning = append(c.warning, storeapi.Warning{Source: c.name, Text: text})
	case c.partial == storeapi.PartialAbort:
		if i := slices.IndexFunc(c.warning, func(w storeapi.Warning) bool { return !w.IsCollision() }); i >= 0 {
			c.err = fmt.Errorf("%w: %s", storeapi.ErrPartial, c.warning[i].Text)
		}
	}
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
	var refused refusedError
	if errors.As(err, &refused) {
		c.asking.cancel(refused.error)
		return refused.error
	}
	if c.partial != storeapi.PartialAbort {
		return nil
	}
	named := nameError("receive series from", c.name, err)
	if context.Cause(c.asking.inner) == nil {
		// Later failures are those of stores that were stopped because of this one.
		storeapi.ReportFromContext(c.asking.outer).Miss(c.target.missing(c.asking.r, storeapi.ReasonOf(err), named.Error()))
	}
	c.asking.cancel(fmt.Errorf("%w: %w", storeapi.ErrPartial, named))
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
// carry others. last are labels that are legible: only what differs is checked.
func legible(last, ls labels.Labels) bool {
	before, set := zerocopy.Encoding(last), zerocopy.Encoding(ls)
	same := zerocopy.CommonBytes(zerocopy.Bytes(before), zerocopy.Bytes(set))
	// A byte of ASCII ends a rune.
	if zerocopy.IsASCII(set[max(same-1, 0):]) {
		return true
	}
	_, rest := zerocopy.CutCommon(before, set)
	for rest != "" {
		var part string
		if part, rest = zerocopy.CutPart(rest); !utf8.ValidString(part) {
			return false
		}
	}
	return true
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
