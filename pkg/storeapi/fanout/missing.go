package fanout

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// strictStore is a store without which no request that needs it succeeds,
// whether or not the request accepts partial answers.
type strictStore interface{ Strict() bool }

// partialFor is the policy of a request for one store.
func partialFor(st any, asked storeapi.PartialResponse) storeapi.PartialResponse {
	if s, ok := st.(strictStore); ok && s.Strict() {
		return storeapi.PartialAbort
	}
	return asked
}

// missing is the data of the store that a request with the matchers and the time
// range of r lacks: the label sets that can match, and the times that the store
// has.
func (t *target) missing(r *storeapi.Request, why reason.Reason, text string) storeapi.Missing {
	m := storeapi.Missing{
		Store: t.name, Reason: why, Text: text,
		MinTime: max(r.MinTime, t.info.MinTime), MaxTime: min(r.MaxTime, t.info.MaxTime),
	}
	m.LabelSets = storeapi.Concerned(t.info.LabelSets, [][]*labels.Matcher{t.ms})
	return m
}

// warn puts a failure or the warnings of the store into the report of ctx.
func (t *target) warn(ctx context.Context, r *storeapi.Request, ws storeapi.Warnings) {
	if report := storeapi.ReportFromContext(ctx); report != nil && len(ws) > 0 {
		report.MissEach(t.missing(r, reason.StoreWarning, ""), ws)
	}
}

// skips reports whether the store is not to be asked, and why, although nothing is
// missing without it, and notes it in the report of ctx.
func (s *Store) skips(ctx context.Context, st any, name string) (why reason.Reason, skip bool) {
	sk, ok := st.(interface {
		Skips(context.Context) (reason.Reason, bool)
	})
	if !ok {
		return "", false
	}
	if why, skip = sk.Skips(ctx); skip {
		storeapi.ReportFromContext(ctx).Skip(storeapi.Skipped{Store: name, Reason: why})
	}
	return why, skip
}

// noneError is the error of a fan-out without any store.
func noneError() error { return fmt.Errorf("No StoreAPIs available: %w", storeapi.ErrUnavailable) }
