package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Reload reads the endpoint configuration, the discovery files, the rules that choose
// stores and the limits of tenants again. An invalid file keeps its last good version and is part of
// the error.
func (q *Query) Reload(context.Context) error {
	var errs []error
	if err := q.set.Reload(); err != nil {
		errs = append(errs, fmt.Errorf("reload the stores: %w", err))
	}
	if rules, err := q.cfg.selector(); err != nil {
		errs = append(errs, fmt.Errorf("reload the rules that choose stores: %w", err))
	} else {
		q.filter.Store(&rules)
	}
	if file, err := q.cfg.Limits.tenants(); err != nil {
		errs = append(errs, fmt.Errorf("reload the limits of tenants: %w", err))
	} else {
		q.engine.limits.set(file)
	}
	return errors.Join(errs...)
}

// keeps says with which matchers a store is asked, or that it is left out.
func (q *Query) keeps(info storeapi.Info) ([]*labels.Matcher, bool) {
	if f := storeFilter(*q.filter.Load()); f != nil {
		return f(info)
	}
	return nil, true
}
