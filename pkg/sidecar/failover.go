package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// notAnswering says whether a request failed because the server does not run or is not
// ready: it refuses or drops connections, holds requests without an answer to any, or
// answers that it is still starting.
func notAnswering(err error) bool {
	var pe *prom.Error
	if errors.As(err, &pe) {
		return pe.Status == http.StatusServiceUnavailable
	}
	return errors.Is(err, prom.ErrNotAnswering) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// diskView returns a view of everything in the data directory in place of Prometheus,
// which failed to answer with cause; ok is false when that is no outage. The error
// says why there is no view. The caller releases the view.
func (s *promStore) diskView(ctx context.Context, p plan, cause error) (part *persisted, ok bool, err error) {
	if s.outage == nil || !errors.Is(cause, storeapi.ErrUnavailable) {
		return nil, false, nil
	}
	if !errors.Is(cause, prom.ErrNotAnswering) && !s.source.down(ctx) {
		return nil, false, nil
	}
	view, err := s.outage.Acquire(ctx)
	if err != nil {
		return nil, true, fmt.Errorf("%w; its data directory cannot be read either: %w", cause, err)
	}
	s.metrics.reads.WithLabelValues(readDirectory).Inc()
	return &persisted{View: view, mint: p.selection.MinTime, maxt: p.selection.MaxTime}, true, nil
}

// gapWarnings are the warnings about what a view lacks of its part of a request.
func (s *promStore) gapWarnings(part *persisted) storeapi.Warnings {
	var ws storeapi.Warnings
	for _, g := range part.Gaps(part.mint, part.maxt) {
		ws = append(ws, s.gapWarning(g, part))
	}
	return ws
}

func (s *promStore) gapWarning(g blocks.Gap, part *persisted) storeapi.Warning {
	at := func(t int64) string { return time.UnixMilli(t).UTC().Format(time.RFC3339Nano) }
	return storeapi.Warning{Source: s.source.client.URL(), Text: fmt.Sprintf(
		"Prometheus at %s does not answer, and samples between %s and %s may be missing: %s",
		s.source.client.URL(), at(max(g.MinTime, part.mint)), at(min(g.MaxTime, part.maxt)), g.Text)}
}

var errRestored = errorid.Sentinel(errorid.PrometheusDown, "Prometheus has not answered since the start of the sidecar")

// selectRest returns the part of an answer that comes from Prometheus, or from its data
// directory while Prometheus does not answer.
func (s *promStore) selectRest(ctx context.Context, p plan, r *storeapi.Request) storeapi.SeriesSet {
	set := &restSet{order: r.Order()}
	if p.id.restored {
		// The order of an answer of Prometheus is not known.
		set.current = storeapi.ErrSet(failed(s.source, errRestored))
	} else {
		s.metrics.reads.WithLabelValues(readRemote).Inc()
		set.current = s.remoteSelect(ctx, p, r)
	}
	set.next = func(cause error) (storeapi.SeriesSet, storeapi.Warnings) {
		part, ok, err := s.diskView(ctx, p, cause)
		if !ok {
			return nil, nil
		}
		if err != nil {
			return storeapi.ErrSet(err), nil
		}
		defer part.Release()
		return part.store(p.id).Select(ctx, part.request(r)), s.gapWarnings(part)
	}
	return set
}

// restSet reads from one set and, if that fails, goes on in another, which begins with
// the label set at which the first one ended: what was returned of it may not have
// been all of it.
type restSet struct {
	current storeapi.SeriesSet
	order   storeapi.Order
	// next returns the other set with warnings about it, nil if there is none. It is
	// called once.
	next func(cause error) (storeapi.SeriesSet, storeapi.Warnings)

	// failed is the first set once it has failed.
	failed   storeapi.SeriesSet
	warnings storeapi.Warnings
	last     labels.Labels
	any      bool
}

func (s *restSet) Next() bool {
	for {
		for s.current.Next() {
			at := s.current.At().Labels
			if s.failed != nil && s.any && s.order.Compare(at, s.last) < 0 {
				continue // was returned by the first set
			}
			s.last, s.any = at, true
			return true
		}
		err := s.current.Err()
		if err == nil || s.failed != nil {
			return false
		}
		set, ws := s.next(err)
		if set == nil {
			return false
		}
		s.failed, s.current, s.warnings = s.current, set, ws
	}
}

func (s *restSet) At() storeapi.Series { return s.current.At() }
func (s *restSet) Err() error          { return s.current.Err() }

func (s *restSet) Warnings() storeapi.Warnings {
	if s.failed == nil {
		return s.current.Warnings()
	}
	return slices.Concat(s.failed.Warnings(), s.warnings, s.current.Warnings())
}

func (s *restSet) Stats() storeapi.Stats {
	st := s.current.Stats()
	if s.failed != nil {
		st.Add(s.failed.Stats())
	}
	return st
}

// Close closes the first set last: its chunks may still be read.
func (s *restSet) Close() error {
	err := s.current.Close()
	if s.failed != nil {
		err = errors.Join(err, s.failed.Close())
	}
	return err
}
