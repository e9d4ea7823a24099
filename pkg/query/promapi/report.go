package promapi

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Report says what one answer lacks.
type Report = storeapi.Report

// ReportFromContext returns the report of ctx, or nil.
func ReportFromContext(ctx context.Context) *Report { return storeapi.ReportFromContext(ctx) }
