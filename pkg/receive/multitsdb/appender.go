package multitsdb

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
)

// gatedAppender holds the tenant's gate until the end of its transaction, so
// that no flush or close comes in between; false when it is closed already.
func gatedAppender(ctx context.Context, t *tenantDB) (storage.Appender, bool) {
	t.gate.RLock()
	if t.closed.Load() || t.leaving.Load() {
		t.gate.RUnlock()
		return nil, false
	}
	now := time.Now().UnixMilli()
	t.lastWrite.Store(now)
	t.lastUse.Store(now)
	return &gated{Appender: t.db.Appender(ctx), unlock: t.gate.RUnlock}, true
}

type gated struct {
	storage.Appender
	once   sync.Once
	unlock func()
}

func (g *gated) Commit() error {
	defer g.once.Do(g.unlock)
	return g.Appender.Commit()
}

func (g *gated) Rollback() error {
	defer g.once.Do(g.unlock)
	return g.Appender.Rollback()
}

// failingAppender refuses everything. Zero samples of histograms, which nobody
// writes here, would find no appender under it.
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
