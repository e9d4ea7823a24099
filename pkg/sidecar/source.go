package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

var errNoExternalLabels = errors.New("Prometheus has no external labels")

// identity is what is known about the Prometheus server. It is immutable.
type identity struct {
	external labels.Labels
	// native are the external labels that stored series carry themselves with
	// the very same value. In an answer they look like added ones.
	native []string
	// names are the sorted label names of all series in the store.
	names []string
	// minTime is the time of the oldest sample, math.MinInt64 when unknown.
	minTime int64
}

// source keeps the identity of one Prometheus server up to date.
type source struct {
	client  *prom.Client
	timeout time.Duration
	logger  *slog.Logger
	metrics *metrics

	mu    sync.Mutex
	known *identity
	err   error
	// suspect wakes the watch before its time.
	suspect chan struct{}
}

func newSource(c *prom.Client, timeout time.Duration, logger *slog.Logger, m *metrics) *source {
	return &source{
		client: c, timeout: timeout, logger: logger, metrics: m,
		err:     errors.New("Prometheus has not answered yet"),
		suspect: make(chan struct{}, 1),
	}
}

// get returns the newest identity, and why it may be wrong: the error of the
// last look. Before the first answer there is no identity.
func (s *source) get() (*identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known, s.err
}

// current returns the identity, or an error of the kind ErrUnavailable.
func (s *source) current() (*identity, error) {
	id, err := s.get()
	if id == nil {
		return nil, fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	}
	return id, nil
}

// external returns the external labels; none before the first answer.
func (s *source) external() labels.Labels {
	id, _ := s.get()
	if id == nil {
		return labels.EmptyLabels()
	}
	return id.external
}

// ready is nil when the last look succeeded.
func (s *source) ready() error {
	_, err := s.get()
	return err
}

// look asks the server who it is.
func (s *source) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	id, err := s.ask(ctx)
	s.mu.Lock()
	before, errBefore := s.known, s.err
	if err == nil {
		s.known = id
	}
	s.err = err
	s.mu.Unlock()

	s.metrics.observeLook(err)
	switch {
	case err != nil && errBefore == nil:
		s.logger.Warn("prometheus does not answer as it should", "err", err)
	case err == nil && before != nil && errBefore != nil:
		s.logger.Info("prometheus answers again")
	}
	if err == nil && before != nil && !labels.Equal(before.external, id.external) {
		s.logger.Warn("external labels of prometheus changed", "before", before.external, "now", id.external)
	}
	return err
}

func (s *source) ask(ctx context.Context) (*identity, error) {
	ext, err := s.client.ExternalLabels(ctx)
	if err != nil {
		return nil, err
	}
	if ext.IsEmpty() {
		return nil, fmt.Errorf("%w at %s; set global.external_labels in its configuration so that its data can be told from others', for example cluster and replica",
			errNoExternalLabels, s.client.URL())
	}
	return s.identify(ctx, ext)
}

// identify asks for everything but the external labels.
func (s *source) identify(ctx context.Context, ext labels.Labels) (*identity, error) {
	times, err := s.client.Times(ctx)
	if hidden(err) {
		times = prom.Times{Lowest: math.MinInt64}
	} else if err != nil {
		return nil, err
	}
	id := &identity{external: ext, minTime: times.Lowest}
	if id.names, _, err = s.client.LabelNames(ctx, everything()); err != nil {
		return nil, err
	}
	if id.native, err = s.nativeLabels(ctx, id); err != nil {
		return nil, err
	}
	return id, nil
}

func everything() prom.Selection {
	return prom.Selection{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
}

// stored says whether a series in the store may carry the label.
func (id *identity) stored(name string) bool {
	_, ok := slices.BinarySearch(id.names, name)
	return ok
}

// nativeLabels finds the external labels that series in the store carry too,
// with the same value.
func (s *source) nativeLabels(ctx context.Context, id *identity) ([]string, error) {
	var native []string
	err := id.external.Validate(func(l labels.Label) error {
		if !id.stored(l.Name) {
			return nil
		}
		values, _, err := s.client.LabelValues(ctx, l.Name, everything())
		if err != nil {
			return err
		}
		if _, ok := slices.BinarySearch(values, l.Value); ok {
			native = append(native, l.Name)
		}
		return nil
	})
	return native, err
}

// wait looks until the server answers, at most for the given time. Lacking
// external labels and refused credentials end it at once.
func (s *source) wait(ctx context.Context, atMost time.Duration) error {
	deadline, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	logged := ""
	for {
		err := s.look(deadline)
		if err == nil || permanent(err) {
			return err
		}
		if text := err.Error(); text != logged && deadline.Err() == nil {
			s.logger.Info("waiting for prometheus", "url", s.client.URL(), "err", err)
			logged = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.Done():
			return fmt.Errorf("Prometheus was not ready within %s: %w", atMost, err)
		case <-tick.C:
		}
	}
}

// hidden says whether the server answers, but not to this question: a proxy in
// front of it lets through the API only, or it is too old.
func hidden(err error) bool {
	var pe *prom.Error
	return errors.As(err, &pe) && pe.Status/100 == 4
}

// retryInterval is the pause between two looks at a server that does not answer.
const retryInterval = 2 * time.Second

// permanent says whether asking again cannot help while the server's and our
// own configuration stay as they are.
func permanent(err error) bool {
	var pe *prom.Error
	refused := errors.As(err, &pe) && (pe.Status == http.StatusUnauthorized || pe.Status == http.StatusForbidden)
	return refused || errors.Is(err, errNoExternalLabels)
}

// watch looks again every interval, sooner while the server does not answer or
// when a request met an error, until ctx is cancelled.
func (s *source) watch(ctx context.Context, interval time.Duration) {
	for {
		pause := interval
		if s.ready() != nil {
			pause = min(interval, retryInterval)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.suspect:
			timer.Stop()
		}
		// The error is kept for ready and get.
		_ = s.look(ctx)
	}
}

// doubt makes the watch look now, because a request failed.
func (s *source) doubt() {
	select {
	case s.suspect <- struct{}{}:
	default:
	}
}
