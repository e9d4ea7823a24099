package endpoint

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// expected says whether an answer without the endpoint would lack something:
// as long as configuration, files or DNS name it. Who takes a store out of a
// file means it, so that counts at once. DNS is different: a server that
// crashes or is not ready is taken out there too. So what DNS names no more is
// still asked while it answers, and then missed, until it has been gone for
// UnhealthyTimeout or another store has taken its place.
func (s *Set) expected(e *Endpoint, now time.Time) bool {
	e.mtx.Lock()
	departed, contacted, last, up := e.departed, e.contacted, e.lastSuccess, e.up
	e.mtx.Unlock()
	switch {
	case departed.IsZero():
		return true
	case !e.fromDNS || !contacted:
		return false
	case up:
		return now.Sub(departed) < s.cfg.UnhealthyTimeout
	}
	return now.Sub(last) < s.cfg.UnhealthyTimeout && !s.replaced(e)
}

// replaced says whether another endpoint has taken the place of e: one with the
// same labels and kind, that came about when e went, and stands for no other.
func (s *Set) replaced(e *Endpoint) bool {
	old := e.Info()
	if len(old.LabelSets) == 0 {
		return false
	}
	for _, o := range s.sorted() {
		if o == e || o.replaces != "" {
			continue
		}
		info := o.Info()
		o.mtx.Lock()
		candidate := o.up && o.departed.IsZero() && o.first.After(e.departed.Add(-s.cfg.UnhealthyTimeout)) && o.first.After(e.first)
		o.mtx.Unlock()
		if candidate && info.Component == old.Component && sameLabelSets(info.LabelSets, old.LabelSets) {
			o.replaces = e.name
			return true
		}
	}
	return false
}

func sameLabelSets(a, b []labels.Labels) bool {
	if len(a) != len(b) {
		return false
	}
	return !slices.ContainsFunc(a, func(x labels.Labels) bool {
		return !slices.ContainsFunc(b, func(y labels.Labels) bool { return labels.Equal(x, y) })
	})
}
