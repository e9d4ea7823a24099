package multitsdb

import (
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// gatedAppender commits as writes do. It leaves the tenant at the end of its transaction, so
// that no flush or closing comes in between.
type gatedAppender struct {
	storage.Appender
	once sync.Once
	t    *tenantDB
}

// Commit implements storage.AppenderTransaction.
func (g *gatedAppender) Commit() error {
	defer g.once.Do(g.t.leave)
	return g.t.commit(g.Appender)
}

// Rollback implements storage.AppenderTransaction.
func (g *gatedAppender) Rollback() error {
	defer g.once.Do(g.t.leave)
	return g.Appender.Rollback()
}

// failingAppender refuses everything. AppendHistogramSTZeroSample, which the
// program's own metrics do not use, would find no appender under it.
type failingAppender struct {
	storage.Appender
	err error
}

func (f failingAppender) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, f.err
}

func (f failingAppender) Commit() error                     { return f.err }
func (f failingAppender) Rollback() error                   { return nil }
func (f failingAppender) SetOptions(*storage.AppendOptions) {}

func (f failingAppender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, f.err
}

func (f failingAppender) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, f.err
}

func (f failingAppender) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, f.err
}

func (f failingAppender) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, f.err
}
