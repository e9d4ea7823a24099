package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

var errNoExternalLabels = errorid.Sentinel(errorid.PrometheusLabels, "Prometheus has no external labels")

// identity describes the Prometheus server. It is immutable.
type identity struct {
	external labels.Labels
	// native are the external labels that stored series have with the same value.
	// In an answer they look like added labels.
	native []string
	// names are the sorted label names of all series in the store.
	names []string
	// minTime is the time of the oldest sample, math.MinInt64 when unknown.
	minTime int64
	// restored says that the server has not answered yet, and that external is of an
	// earlier life of the sidecar; the rest is unknown.
	restored bool
}

// source keeps the identity of one Prometheus server up to date.
type source struct {
	client  *prom.Client
	timeout time.Duration
	logger  *slog.Logger
	metrics *metrics
	// last keeps the external labels for the next start; nil keeps none.
	last *lastLabels

	mu    sync.Mutex
	known *identity
	err   error
	// checkNow makes watch check before its interval has passed.
	checkNow chan struct{}
}

func newSource(c *prom.Client, timeout time.Duration, logger *slog.Logger, m *metrics) *source {
	return &source{
		client: c, timeout: timeout, logger: logger, metrics: m,
		err:      errors.New("Prometheus has not answered yet"),
		checkNow: make(chan struct{}, 1),
	}
}

// get returns the newest identity, nil before the first answer, and the error of the
// last check.
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

// ready is nil when the last check succeeded.
func (s *source) ready() error {
	_, err := s.get()
	return err
}

// down asks the server whether it runs and is ready, because a request failed.
func (s *source) down(ctx context.Context) bool {
	_, err := s.client.ExternalLabels(ctx)
	if !notAnswering(err) {
		return false
	}
	s.recheck()
	return true
}

// check asks the server for its identity.
func (s *source) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	id, err := s.ask(ctx)
	s.mu.Lock()
	before, errBefore := s.known, s.err
	if err == nil {
		s.known = id
	} else if s.known == nil && s.last != nil && notAnswering(err) {
		s.known = s.restore()
	}
	s.err = err
	s.mu.Unlock()
	if err == nil && s.last != nil {
		if err := s.last.save(id.external); err != nil {
			s.logger.Warn("cannot keep external labels for the next start", "err", err)
		}
	}

	s.metrics.observeCheck(err)
	switch {
	case err != nil && errBefore == nil:
		s.logger.Warn("check of prometheus failed", "err", err)
	case err == nil && before != nil && errBefore != nil:
		s.logger.Info("prometheus reachable again")
	}
	if err == nil && before != nil && !labels.Equal(before.external, id.external) {
		s.logger.Warn("external labels of prometheus changed", "previous_label_set", before.external, "label_set", id.external)
	}
	return err
}

// restore returns the identity that an earlier life of the sidecar has kept, nil if
// there is none.
func (s *source) restore() *identity {
	id, err := s.last.load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.logger.Warn("cannot use external labels of the last start", "err", err)
		return nil
	}
	s.logger.Info("prometheus does not answer; reading from disk with the external labels of the last start", "label_set", id.external)
	return id
}

func (s *source) ask(ctx context.Context) (*identity, error) {
	ext, err := s.client.ExternalLabels(ctx)
	if err != nil {
		return nil, err
	}
	if ext.IsEmpty() {
		return nil, fmt.Errorf("%w at %s; set global.external_labels in its configuration to identify its data, for example cluster and replica",
			errNoExternalLabels, s.client.URL())
	}
	return s.identify(ctx, ext)
}

// identify asks for the rest of the identity.
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

// stored says whether a stored series may have the label.
func (id *identity) stored(name string) bool {
	_, ok := slices.BinarySearch(id.names, name)
	return ok
}

// nativeLabels returns the external labels that stored series have with the same
// value.
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

// wait checks until the server answers, for atMost. It returns at once when the
// server has no external labels or refuses the credentials.
func (s *source) wait(ctx context.Context, atMost time.Duration) error {
	return s.retry(ctx, atMost, s.check)
}

// flags asks the server for its flags until it answers, like wait: it may restart right
// after the first contact.
func (s *source) flags(ctx context.Context, atMost time.Duration) (f map[string]string, err error) {
	var refused error
	err = s.retry(ctx, atMost, func(ctx context.Context) (err error) {
		if f, err = s.client.Flags(ctx); hidden(err) {
			refused, err = err, nil
		}
		return err
	})
	return f, errors.Join(err, refused)
}

// retry calls ask until it succeeds or its error is permanent, for atMost.
func (s *source) retry(ctx context.Context, atMost time.Duration, ask func(context.Context) error) error {
	deadline, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	logged := ""
	for {
		err := ask(deadline)
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

// hidden says whether the server is reachable but does not serve this path: a proxy
// in front of it serves the API only, or it is too old.
func hidden(err error) bool {
	var pe *prom.Error
	return errors.As(err, &pe) && pe.Status/100 == 4
}

// retryInterval is the pause between two checks of a server that does not answer.
const retryInterval = 2 * time.Second

// permanent says whether the error stays until the configuration of the server or
// of the sidecar changes.
func permanent(err error) bool {
	var pe *prom.Error
	refused := errors.As(err, &pe) && (pe.Status == http.StatusUnauthorized || pe.Status == http.StatusForbidden)
	return refused || errors.Is(err, errNoExternalLabels)
}

// watch checks every interval, sooner while the server does not answer or when a
// request failed, until ctx is cancelled.
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
		case <-s.checkNow:
			timer.Stop()
		}
		// ready and get return the error.
		_ = s.check(ctx)
	}
}

// recheck makes watch check now, because a request failed.
func (s *source) recheck() {
	select {
	case s.checkNow <- struct{}{}:
	default:
	}
}
