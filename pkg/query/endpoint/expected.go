package endpoint

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// expected reports whether an answer without the endpoint is incomplete: as long
// as configuration, files or DNS name it. Removal from a file is deliberate and
// counts at once. DNS also removes a server that crashed or is not ready, so an
// endpoint that DNS no longer names is asked while it answers and then counts as
// missing, until UnhealthyTimeout has passed or another store has replaced it.
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

// replaced reports whether another endpoint replaces e: it has the same labels and
// kind, appeared when e disappeared, and replaces no other endpoint.
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
