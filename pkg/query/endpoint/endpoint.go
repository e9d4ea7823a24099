package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Client is a connection to one store.
type Client interface {
	storeapi.Store
	storeapi.MetadataStore
	exemplarClient
	// Refresh asks the store about itself; Info returns its last answer.
	Refresh(ctx context.Context) error
	// State is the state of the connection.
	State() connectivity.State
	Close() error
}

// Endpoint is one store of the set. As a storeapi.Store it passes requests on
// while the store is up, and fails them at once while it is missing.
type Endpoint struct {
	name   string
	spec   Spec
	client Client
	calls  calls
	// pace is that of answers that come as a whole.
	pace pace
	// hedge is nil when only one member is asked.
	hedge *hedge
	// discovered says that DNS or a file found the address.
	discovered bool
	// self is the instance of the querier that the endpoint belongs to.
	self   string
	logger *slog.Logger
	// looped is set once a request sent to the endpoint came back to this querier.
	looped atomic.Bool
	// replaces is the name of the endpoint that this one replaced. It belongs to
	// the set.
	replaces string

	mtx sync.Mutex
	// info is the last announcement of the store.
	info        storeapi.Info
	contacted   bool
	up          bool
	first       time.Time
	lastSuccess time.Time
	lastCheck   time.Time
	lastErr     error
	// departed is the time when discovery no longer named the endpoint; zero while
	// it does.
	departed time.Time
	// forgotten says that an operator no longer expects the departed endpoint.
	forgotten bool
}

// missingError is the error of an expected store that does not answer.
type missingError struct {
	// Store is its address.
	Store string
	// Since is when it answered last; zero when it never did.
	Since time.Time
	// Cause is the last error.
	Cause error
}

func (e *missingError) Error() string {
	if e.Since.IsZero() {
		return fmt.Sprintf("store %s has never been reached: %v", e.Store, e.Cause)
	}
	return fmt.Sprintf("store %s is missing, it answered last at %s: %v", e.Store, e.Since.UTC().Format(time.RFC3339), e.Cause)
}

// MissingReason is the reason for the report of an answer.
func (e *missingError) MissingReason() reason.Reason {
	switch {
	case errors.Is(e.Cause, errNoAddress):
		return reason.StoreNotFound
	case e.Since.IsZero():
		return reason.StoreNeverReached
	}
	return reason.StoreDown
}

// ErrorID is the id of the reason.
func (e *missingError) ErrorID() errorid.ID { return e.MissingReason().ErrorID() }

func (e *missingError) Unwrap() []error { return []error{storeapi.ErrUnavailable, e.Cause} }

// Name is the address of the store.
func (e *Endpoint) Name() string { return e.name }

func (e *Endpoint) String() string { return e.name }

// Strict reports whether requests that need the store must not succeed without
// it.
func (e *Endpoint) Strict() bool { return e.spec.Strict }

// refresh asks the store about itself and notes the outcome.
func (e *Endpoint) refresh(ctx context.Context, timeout time.Duration, now func() time.Time) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if e.self != "" {
		ctx = storeapi.WithHops(ctx, []string{e.self})
	}
	check := e.calls.checks.Add(1)
	err := e.client.Refresh(ctx)
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if err != nil && ctx.Err() != nil {
		// A server that answers that it is not ready completes its running calls.
		defer func() { e.calls.stop(check, &missingError{Store: e.name, Since: e.lastSuccess, Cause: err}) }()
	}
	wasUp, wasChecked := e.up, !e.lastCheck.IsZero()
	e.lastCheck, e.lastErr, e.up = now(), err, err == nil
	if err == nil {
		e.info, e.lastSuccess = e.client.Info(), e.lastCheck
		if !e.contacted {
			e.contacted, e.first = true, e.lastCheck
		}
	}
	return e.up != wasUp || !wasChecked
}

// usable returns the context for a request to the store; see route. It fails when
// the store must not or cannot be asked.
func (e *Endpoint) usable(ctx context.Context) (next context.Context, skip bool, err error) {
	if next, skip, err = e.route(ctx); err != nil || skip {
		return ctx, skip, err
	}
	return next, false, e.Reachable()
}

// emptyOr returns a set that fails with err, or an empty one.
func emptyOr(err error) storeapi.SeriesSet {
	if err == nil {
		return storeapi.EmptySet()
	}
	return storeapi.ErrSet(err)
}

// Reachable returns nil when the store is up, and otherwise why requests fail at once.
func (e *Endpoint) Reachable() error {
	state := e.client.State()
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.up && state != connectivity.TransientFailure && state != connectivity.Shutdown {
		return nil
	}
	err := &missingError{Store: e.name, Cause: e.lastErr}
	if e.contacted {
		err.Since = e.lastSuccess
	}
	if err.Cause == nil {
		err.Cause = fmt.Errorf("the connection is broken (%s)", state)
	}
	return err
}

// Info is the last announcement of the store. Of a store that never answered
// nothing is known, so it may have anything. A store that is missing may have got
// newer data for as long as it is.
func (e *Endpoint) Info() storeapi.Info {
	info := e.announced()
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if e.contacted && !e.up {
		info.MaxTime += min(math.MaxInt64-max(0, info.MaxTime), time.Since(e.lastSuccess).Milliseconds())
	}
	return info
}

// announced is Info as the store said it.
func (e *Endpoint) announced() storeapi.Info {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	if !e.contacted {
		return storeapi.Info{MinTime: math.MinInt64, MaxTime: math.MaxInt64, Unknown: true}
	}
	if e.self != "" && e.info.Instance == e.self {
		return storeapi.Info{Component: e.info.Component, Instance: e.self, NoStore: true}
	}
	return e.info
}

// Select implements storeapi.Store.
func (e *Endpoint) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	ctx, skip, err := e.usable(ctx)
	if err != nil || skip {
		return emptyOr(err)
	}
	c := e.calls.begin(ctx)
	c.wait()
	defer c.resume()
	open := func(ctx context.Context) storeapi.SeriesSet { return e.client.Select(ctx, r) }
	if e.hedge != nil {
		return &callSet{SeriesSet: newHedgedSet(c.ctx, e.hedge, open), call: c}
	}
	return &callSet{SeriesSet: open(c.ctx), call: c}
}

// LabelNames implements storeapi.Store.
func (e *Endpoint) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	ctx, skip, err := e.usable(ctx)
	if err != nil || skip {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) ([]string, storeapi.Warnings, error) { return e.client.LabelNames(ctx, r) })
}

// LabelValues implements storeapi.Store.
func (e *Endpoint) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	ctx, skip, err := e.usable(ctx)
	if err != nil || skip {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) ([]string, storeapi.Warnings, error) {
		return e.client.LabelValues(ctx, name, r)
	})
}

// Metadata implements storeapi.MetadataStore. Stores that do not offer metadata
// have none to miss, whether they answer or not.
func (e *Endpoint) Metadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if o, ok := e.client.(interface{ OffersMetadata() bool }); ok && e.wasContacted() && !o.OffersMetadata() {
		return nil, nil, nil
	}
	ctx, skip, err := e.usable(ctx)
	if err != nil || skip {
		return nil, nil, err
	}
	return once(ctx, e, func(ctx context.Context) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
		return e.client.Metadata(ctx, metric, limit)
	})
}

// Status describes an endpoint for people.
type Status struct {
	Name      string
	Info      storeapi.Info
	Up        bool
	Contacted bool
	Strict    bool
	LastCheck time.Time
	LastError string
}

// Status returns the state of the endpoint at this moment.
func (e *Endpoint) Status() Status {
	info, routing := e.announced(), e.routing()
	e.mtx.Lock()
	defer e.mtx.Unlock()
	s := Status{
		Name: e.name, Info: info, Up: e.up, Contacted: e.contacted, Strict: e.spec.Strict, LastCheck: e.lastCheck,
	}
	if e.lastErr != nil {
		s.LastError = e.lastErr.Error()
	} else if routing != nil {
		s.LastError = routing.Error()
	}
	return s
}
