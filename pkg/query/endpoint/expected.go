package endpoint

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// expected reports whether an answer without the endpoint is incomplete: as long
// as configuration, files or DNS name it. Removal from the configuration is
// deliberate and counts at once. DNS loses a server that crashed or is not ready,
// and a file can be generated: an endpoint that discovery no longer names is
// asked while it answers and counts as missing when it does not, until
// ExpectedTimeout has passed, another store has replaced it, or an operator
// forgets it.
func (s *Set) expected(e *Endpoint, now time.Time) bool {
	e.mtx.Lock()
	departed, contacted, last, up, forgotten := e.departed, e.contacted, e.lastSuccess, e.up, e.forgotten
	e.mtx.Unlock()
	switch {
	case departed.IsZero():
		return true
	case !e.discovered || !contacted || forgotten:
		return false
	case up:
		return now.Sub(departed) < s.cfg.ExpectedTimeout
	}
	return now.Sub(last) < s.cfg.ExpectedTimeout && !s.replaced(e)
}

// ErrNoSuchStore says that Forget was called with a name that no endpoint has, and
// errStoreNamed that configuration or discovery names the endpoint.
var (
	ErrNoSuchStore = errors.New("there is no such store")
	errStoreNamed  = errors.New("configuration or discovery names the store; remove it there")
)

// Forget removes an endpoint that discovery no longer names before its time, so
// that answers are complete without it. It may be called concurrently.
func (s *Set) Forget(name string) error {
	for _, e := range s.Endpoints() {
		if e.name != name {
			continue
		}
		e.mtx.Lock()
		departed := !e.departed.IsZero()
		e.forgotten = departed
		e.mtx.Unlock()
		if !departed {
			return fmt.Errorf("forget store %s: %w", name, errStoreNamed)
		}
		s.wake()
		return nil
	}
	return fmt.Errorf("forget store %s: %w", name, ErrNoSuchStore)
}

// wake makes Run refresh now.
func (s *Set) wake() {
	select {
	case s.woken <- struct{}{}:
	default: // a refresh is due already
	}
}

// replaced reports whether another endpoint replaces e: it has the same labels and
// kind, appeared when e disappeared, and replaces no other endpoint.
func (s *Set) replaced(e *Endpoint) bool {
	old := e.announced()
	if len(old.LabelSets) == 0 {
		return false
	}
	for _, o := range s.sorted() {
		if o == e || o.replaces != "" {
			continue
		}
		info := o.Info()
		o.mtx.Lock()
		candidate := o.up && o.departed.IsZero() && o.first.After(e.departed.Add(-s.cfg.ExpectedTimeout)) && o.first.After(e.first)
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
