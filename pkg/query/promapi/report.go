package promapi

import (
	"context"
	"slices"
	"sync"
)

// Report collects the missing sources of one answer while it is made. It may be
// used concurrently; a nil Report takes everything and keeps nothing.
type Report struct {
	mtx     sync.Mutex
	warned  bool
	sources []string
}

// Add notes a warning about the source, which may be empty when it is not
// known.
func (r *Report) Add(source, _ string) {
	if r == nil {
		return
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	r.warned = true
	if source != "" && !slices.Contains(r.sources, source) {
		r.sources = append(r.sources, source)
	}
}

// Missing returns the sorted names of the sources that the answer lacks, and
// whether it lacks anything.
func (r *Report) Missing() (sources []string, incomplete bool) {
	if r == nil {
		return nil, false
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	out := slices.Clone(r.sources)
	slices.Sort(out)
	return out, r.warned
}

type reportKey struct{}

// NewReportContext returns ctx with a new report.
func NewReportContext(ctx context.Context) (context.Context, *Report) {
	r := &Report{}
	return context.WithValue(ctx, reportKey{}, r), r
}

// ReportFromContext returns the report of ctx, or nil.
func ReportFromContext(ctx context.Context) *Report {
	r, _ := ctx.Value(reportKey{}).(*Report)
	return r
}
