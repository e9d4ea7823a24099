package fanout

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// addressLabel is the label of a store that StoreMatchers match.
const addressLabel = "__address__"

// target is a store that is asked, with the matchers for it.
type target struct {
	store storeapi.Store
	info  storeapi.Info
	name  string
	// named says that the name is the store's own, which remote ones have.
	named bool
	ms    []*labels.Matcher
	// narrowed says that ms select less than those of the request.
	narrowed bool
	// traced is the index of the store in the trace of the selection.
	traced int
}

// choose returns the stores that can have an answer; nothing is missing without the
// others. It notes both in the trace of the selection, which may be nil.
func (s *Store) choose(ctx context.Context, stores []storeapi.Store, r *storeapi.Request, ms []*labels.Matcher, trace *storeapi.TracedSelect) []target {
	var out []target
	for _, st := range stores {
		t := target{store: st, info: st.Info(), ms: ms}
		t.name, t.named = nameOf(st, t.info)
		why := s.prunes(ctx, &t, r)
		traced := storeapi.TracedStore{Name: t.name, Component: t.info.Component, Pruned: why}
		if trace != nil && why == "" {
			traced.Missing = missingReason(st)
		}
		t.traced = trace.Add(traced)
		if why == "" {
			out = append(out, t)
		}
	}
	return out
}

// missingReason returns why a store that knows its state cannot answer, or "".
func missingReason(st storeapi.Store) reason.Reason {
	if m, ok := st.(interface{ Reachable() error }); ok {
		if err := m.Reachable(); err != nil {
			return storeapi.ReasonOf(err)
		}
	}
	return ""
}

// prunes returns why the store of t is not asked, or "". It adds the matchers for the
// store.
func (s *Store) prunes(ctx context.Context, t *target, r *storeapi.Request) reason.Reason {
	if why, ok := s.skips(ctx, t.store, t.name); ok {
		return why
	}
	if t.info.NoStore {
		return reason.StoreWithoutSeries
	}
	t.info = s.trusted(t.info, t.name)
	ms := t.ms
	if s.cfg.Filter != nil {
		extra, ok := s.cfg.Filter(t.info)
		if !ok {
			return reason.StoreFiltered
		}
		t.ms, t.narrowed = append(ms[:len(ms):len(ms)], extra...), len(extra) > 0
	}
	switch {
	case !inTime(t.info, r):
		return reason.StoreOtherTimes
	case !matchesStore(r.StoreMatchers, t.name, t.named):
		return reason.StoreFiltered
	case !mayHave(t.info, ms):
		return reason.StoreOtherLabels
	}
	return ""
}

// storesOf returns the stores that are asked for all that the request selects.
func storesOf(targets []target) (out []storeapi.Store) {
	for i := range targets {
		if !targets[i].narrowed {
			out = append(out, targets[i].store)
		}
	}
	return out
}

// nameOf returns the name of a store in warnings: its own, which only remote
// stores have, or one made of its component and label sets.
func nameOf(st storeapi.Store, info storeapi.Info) (name string, named bool) {
	if n, ok := st.(interface{ Name() string }); ok {
		return n.Name(), true
	}
	name = info.Component
	for _, ls := range info.LabelSets {
		name += ls.String()
	}
	if name == "" {
		name = "a local store"
	}
	return name, false
}

func inTime(info storeapi.Info, r *storeapi.Request) bool {
	return r.MinTime <= info.MaxTime && r.MaxTime >= info.MinTime
}

// matchesStore reports whether any of the sets matches the address. Matchers on
// other labels do not count. A store without an address matches no set.
func matchesStore(sets [][]*labels.Matcher, address string, named bool) bool {
	if len(sets) == 0 {
		return true
	}
	for _, set := range sets {
		ok := named
		for _, m := range set {
			if m.Name == addressLabel && !m.Matches(address) {
				ok = false
			}
		}
		if ok {
			return true
		}
	}
	return false
}

// mayHave reports whether one of the announced label sets is compatible with the
// matchers. A label that a set does not have may be on the series.
func mayHave(info storeapi.Info, ms []*labels.Matcher) bool {
	if len(info.LabelSets) == 0 {
		return true
	}
	for _, ls := range info.LabelSets {
		if _, ok := storeapi.MatchExternal(ls, ms); ok {
			return true
		}
	}
	return false
}
