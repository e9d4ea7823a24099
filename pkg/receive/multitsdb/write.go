package multitsdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/seriescache"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// writer appends one batch. It is reused; release drops what it holds of a batch.
type writer struct {
	t        *tenantDB
	app      storage.Appender
	timed    storage.AppenderV2 // takes the samples when start timestamps are stored, otherwise nil
	limits   Limits
	times    timeRange
	renamer  renamer
	age      uint64 // of the cache
	aliased  bool   // the cache has aliases
	found    []seriescache.Entry
	hashes   []uint32
	fresh    []seriescache.Fresh
	builder  remotewrite.LabelBuilder
	raw      []byte
	batch    *remotewrite.Batch
	only     []uint32 // the series of the batch to write; nil is all
	index    int      // of the series in its batch
	repeats  repeats
	newest   newest
	previous storage.SeriesRef // of the series before, which may be the same
	current  storage.SeriesRef // of this one, 0 until it has one
	rejected remotewrite.Rejected
	stored   remotewrite.Counts
}

// point is a sample or a histogram of a series.
type point struct {
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

func (p *point) isFloat() bool { return p.h == nil && p.fh == nil }

// counts returns the point as one item.
func (p *point) counts() remotewrite.Counts {
	if p.isFloat() {
		return remotewrite.Counts{Samples: 1}
	}
	return remotewrite.Counts{Histograms: 1}
}

// writers holds idle writers.
var writers = sync.Pool{New: func() any { return new(writer) }}

// maxReopens bounds how often one request reopens a tenant that is being closed.
const maxReopens = 3

// Write stores series of a batch for the tenant, opening its TSDB if need be:
// those with the given indexes, or all when series is nil. It returns after they
// are in the write-ahead log. The error, a *remotewrite.WriteError, reports the items
// that cannot be stored; all others are stored.
func (d *DB) Write(ctx context.Context, id string, b *remotewrite.Batch, series []uint32) error {
	t, err := d.enter(id)
	if err != nil {
		return err
	}
	defer t.leave()
	w := t.writer(ctx, b, series)
	defer w.release()
	if w.hasUnknown() {
		t.creating.Lock()
		defer t.creating.Unlock()
	}
	for i := range w.found {
		w.index, w.current = w.at(i), 0
		w.series(b.Series(w.index), w.found[i], w.hashes[i])
		w.repeats.add(w.current)
	}
	if err := w.commit(); err != nil {
		return remotewrite.Errorf(remotewrite.Unavailable, "tenant %s: write to the write-ahead log: %w", id, err)
	}
	t.cache.Add(w.age, w.fresh)
	w.describe()
	t.observe(&w.stored, &w.rejected)
	return w.rejected.Err(id, &w.stored)
}

// enter returns the tenant, opened if need be. It is neither flushed nor closed
// until leave is called.
func (d *DB) enter(id string) (*tenantDB, error) {
	if err := d.space.check(); err != nil {
		return nil, err
	}
	for range maxReopens {
		if d.leaving.Load() {
			return nil, errLeaving
		}
		t := d.opened(id)
		if t == nil || !d.ready.Load() {
			if err := tenant.Validate(id); err != nil {
				return nil, remotewrite.Errorf(remotewrite.Invalid, "%w", err)
			}
			s, err := d.handle(id, lifecycle.Event{Kind: lifecycle.Write})
			if err != nil {
				return nil, err
			}
			t = s.tenant
		}
		if !t.enter() {
			continue
		}
		if !t.logFailed.Load() {
			return t, nil
		}
		t.leave()
		if err := d.reopen(t); err != nil {
			return nil, err
		}
	}
	return nil, errClosed
}

// writer returns a writer for a batch, which has looked up all its series.
func (t *tenantDB) writer(ctx context.Context, b *remotewrite.Batch, series []uint32) *writer {
	w := writers.Get().(*writer)
	w.t, w.app, w.limits = t, t.db.Appender(ctx), t.limits()
	if t.cfg.StartTimestamps {
		w.timed = t.db.AppenderV2(ctx)
	}
	w.times = t.cfg.acceptable(time.Now())
	w.renamer.external = t.cfg.External(t.id)
	w.age = t.cache.Use(w.renamer.external)
	n := b.Len()
	if series != nil {
		n = len(series)
	}
	w.batch, w.only = b, series
	if cap(w.found) < n {
		w.found, w.hashes = make([]seriescache.Entry, n), make([]uint32, n)
	}
	w.found, w.hashes = w.found[:n], w.hashes[:n]
	w.aliased = t.cache.Lookup(func(i int) []byte { return b.Series(w.at(i)).Labels }, w.hashes, w.found)
	w.repeats.start(n)
	return w
}

// describe keeps the metadata of the batch. It comes last: a message that is
// malformed must not cost a sample.
func (w *writer) describe() {
	for _, m := range w.batch.Metadata() {
		if err := w.t.metadata.family(m); err != nil {
			w.rejected.Add(remotewrite.Invalid, reason.MalformedMetadata, 1, err.Error)
		}
	}
}

// hasUnknown reports whether the cache lacks a series of the batch, so that it may be new.
func (w *writer) hasUnknown() bool {
	for i := range w.found {
		if w.found[i].Ref == 0 {
			return true
		}
	}
	return false
}

// at returns the index in the batch of the i-th series to write.
func (w *writer) at(i int) int {
	if w.only == nil {
		return i
	}
	return int(w.only[i])
}

// commit writes the batch to the log and the head, unless the log has failed.
func (w *writer) commit() error {
	if w.timed == nil {
		return w.t.commit(w.app)
	}
	return w.t.commit(inOrder{samples: w.timed, exemplars: w.app})
}

// inOrder writes samples before the exemplars that belong to them.
type inOrder struct{ samples, exemplars storage.AppenderTransaction }

// Commit implements storage.AppenderTransaction.
func (o inOrder) Commit() error {
	if err := o.samples.Commit(); err != nil {
		return errors.Join(err, o.exemplars.Rollback())
	}
	return o.exemplars.Commit()
}

// Rollback implements storage.AppenderTransaction.
func (o inOrder) Rollback() error { return errors.Join(o.samples.Rollback(), o.exemplars.Rollback()) }

// series appends the items of one series.
func (w *writer) series(s remotewrite.Series, known seriescache.Entry, hash uint32) {
	isNew := known.Ref == 0
	if isNew {
		var err error
		if known, isNew, err = w.unknown(s.Labels); err != nil {
			w.reject(err, s.Items())
			w.previous = 0
			return
		}
	}
	before := known.Ref
	switch {
	case known.Ref == 0:
		w.newest = newest{}
	case known.Ref != w.previous:
		w.newest = w.newestOf(known.Ref)
	}
	items, exemplars := remotewrite.ItemReader{B: s.Rest}, false
	for {
		item, msg, ok := items.Next()
		if !ok {
			break
		}
		switch item {
		case remotewrite.ItemSample, remotewrite.ItemHistogram:
			w.add(item, msg, s, &known)
		case remotewrite.ItemMetadata:
			w.t.metadata.series(known.Labels.Get(model.MetricNameLabel), msg, s.Rest)
		case remotewrite.ItemExemplar:
			exemplars = true
		}
	}
	if exemplars {
		// They need the series, which this request may just have made.
		w.exemplars(s, &known)
	}
	w.previous, w.current = known.Ref, known.Ref
	if _, ok := w.repeats.newest[known.Ref]; ok {
		w.repeats.newest[known.Ref] = w.newest
	}
	if known.Ref != 0 && (isNew || known.Ref != before) {
		w.learn(hash, s.Labels, known)
	}
}

// add appends one sample or histogram to the TSDB, or notes that it is rejected.
func (w *writer) add(item remotewrite.Item, msg []byte, s remotewrite.Series, known *seriescache.Entry) {
	p, err := parsePoint(item, msg)
	if err != nil {
		w.reject(ofSeries(err, s), p.counts())
		return
	}
	err = w.times.check(p.t)
	if err == nil {
		err = w.newest.next(&p, w.t.cfg.OutOfOrderWindow > 0)
	}
	ref := known.Ref
	switch {
	case err != nil:
	case w.timed != nil:
		ref, err = w.timed.Append(ref, known.Labels, startTime(p.st, p.t), p.t, p.v, p.h, p.fh, storage.AppendV2Options{})
	case p.isFloat():
		ref, err = w.app.Append(ref, known.Labels, p.t, p.v)
	default:
		ref, err = w.app.AppendHistogram(ref, known.Labels, p.t, p.h, p.fh)
	}
	if err != nil {
		w.rejectAt(err, p.t, s, p.counts())
		return
	}
	known.Ref = ref
	if p.isFloat() {
		w.stored.Samples++
	} else {
		w.stored.Histograms++
	}
}

// parsePoint reads a sample or a histogram. After an error the point is still of
// the kind of the item.
func parsePoint(item remotewrite.Item, msg []byte) (point, error) {
	if item == remotewrite.ItemSample {
		v, err := remotewrite.ParseSample(msg)
		return point{t: v.T, st: v.ST, v: v.V}, err
	}
	h, err := remotewrite.ParseHistogram(msg)
	if err != nil {
		return point{h: &histogram.Histogram{}}, err
	}
	return point{t: h.T, st: h.ST, h: h.Int, fh: h.Float}, nil
}

// unknown finds a series whose label bytes are not those of a stored one. isNew
// reports whether they are to be added to the cache.
func (w *writer) unknown(raw []byte) (known seriescache.Entry, isNew bool, err error) {
	if w.aliased {
		if known, ok := w.t.cache.Alias(raw); ok {
			return known, false, nil
		}
	}
	ls, err := w.builder.Build(raw, w.limits.Labels)
	if err != nil {
		return seriescache.Entry{}, false, err
	}
	ls, renamed := w.renamer.rename(ls)
	// The series may be in the head without being in the cache: then its own
	// label set is used, so that there is only one copy of it.
	known.Labels = ls
	if finder, ok := w.app.(storage.GetRef); ok {
		if ref, own := finder.GetRef(ls, ls.Hash()); ref != 0 {
			known.Ref, known.Labels = ref, own
		}
	}
	if renamed != "" {
		w.t.renamed(renamed, ls)
	}
	return known, true, nil
}

// learn keeps a series for the cache, which does not have it yet.
func (w *writer) learn(hash uint32, raw []byte, known seriescache.Entry) {
	w.raw = remotewrite.AppendLabels(w.raw[:0], known.Labels)
	f := seriescache.Fresh{Hash: hash, Entry: known}
	if !bytes.Equal(w.raw, raw) {
		f.Alias = raw
	}
	w.fresh = append(w.fresh, f)
}

// exemplars stores the exemplars of a series that exists. Those of a series
// without samples are dropped without an error, which would be of no use to the
// sender.
func (w *writer) exemplars(s remotewrite.Series, known *seriescache.Entry) {
	if w.t.cfg.MaxExemplars <= 0 || known.Ref == 0 {
		return
	}
	items := remotewrite.ItemReader{B: s.Rest}
	for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
		if item == remotewrite.ItemExemplar {
			w.exemplar(msg, s, known)
		}
	}
}

// exemplar appends one exemplar, or notes that it is rejected.
func (w *writer) exemplar(msg []byte, s remotewrite.Series, known *seriescache.Entry) {
	one := remotewrite.Counts{Exemplars: 1}
	e, err := remotewrite.ParseExemplar(msg)
	if err != nil {
		w.reject(ofSeries(err, s), one)
		return
	}
	if err := w.times.check(e.Ts); err != nil {
		w.rejectAt(err, e.Ts, s, one)
		return
	}
	if known.Ref == 0 {
		return
	}
	if _, err := w.app.AppendExemplar(known.Ref, known.Labels, e); err != nil {
		w.rejectAt(err, e.Ts, s, one)
		return
	}
	w.stored.Exemplars++
}

// ofSeries names the series of an item that cannot be read. Its text is made when it is
// read: few errors of a request are.
func ofSeries(err error, s remotewrite.Series) error { return &itemError{err, s} }

// itemError is the error of an item of a series; it is valid as long as the batch.
type itemError struct {
	err    error
	series remotewrite.Series
}

func (e *itemError) Error() string {
	return fmt.Sprintf("%s (series %s)", e.err, remotewrite.Text(e.series.Labels))
}

// Unwrap returns the cause.
func (e *itemError) Unwrap() error { return e.err }

// reject notes data that is wrong in itself.
func (w *writer) reject(err error, missing remotewrite.Counts) {
	w.rejected.Miss(w.index, missing)
	var invalid *remotewrite.InvalidSeriesError
	why := reason.Malformed
	if errors.As(err, &invalid) {
		why = invalid.Reason
	}
	w.rejected.Add(remotewrite.Invalid, why, 1, err.Error)
}

// rejectAt notes data whose time is not accepted, or that the TSDB refused.
func (w *writer) rejectAt(err error, t int64, s remotewrite.Series, missing remotewrite.Counts) {
	w.rejected.Miss(w.index, missing)
	kind, why := classify(err)
	w.rejected.Add(kind, why, 1, func() string {
		if errors.Is(err, errFuture) || errors.Is(err, errPast) {
			return fmt.Sprintf("%s (series %s)", w.t.cfg.outside(err, t), remotewrite.Text(s.Labels))
		}
		return fmt.Sprintf("%s at %s (series %s)", err, timeText(t), remotewrite.Text(s.Labels))
	})
}

// classify returns the kind of a refusal for the sender, and its reason.
func classify(err error) (remotewrite.Kind, reason.Reason) {
	switch {
	case errors.Is(err, errFuture):
		return remotewrite.Conflict, reason.TooFarInFuture
	case errors.Is(err, errPast):
		return remotewrite.Conflict, reason.TooFarInPast
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return remotewrite.Conflict, reason.OutOfOrder
	case errors.Is(err, storage.ErrTooOldSample):
		return remotewrite.Conflict, reason.TooOld
	case errors.Is(err, storage.ErrOutOfBounds):
		return remotewrite.Conflict, reason.OutOfBounds
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return remotewrite.Conflict, reason.DuplicateTimestamp
	case errors.Is(err, storage.ErrOutOfOrderExemplar):
		return remotewrite.Conflict, reason.OutOfOrderExemplar
	case errors.Is(err, tsdb.ErrInvalidExemplar):
		return remotewrite.Invalid, reason.MalformedExemplar
	case errors.Is(err, storage.ErrExemplarLabelLength):
		return remotewrite.Conflict, reason.ExemplarLabelsTooLong
	case errors.Is(err, errSeriesLimit):
		return remotewrite.LimitExceeded, reason.SeriesLimit
	case errors.Is(err, tsdb.ErrInvalidSample):
		return remotewrite.Invalid, reason.InvalidSample
	}
	return remotewrite.Other, reason.Storage
}

// release makes the writer ready for another batch, without what it holds of
// this one.
func (w *writer) release() {
	clear(w.found)
	clear(w.fresh)
	w.fresh = w.fresh[:0]
	w.t, w.app, w.timed, w.batch, w.only = nil, nil, nil, nil, nil
	clear(w.repeats.newest)
	w.newest, w.previous = newest{}, 0
	w.renamer = renamer{}
	w.rejected, w.stored = remotewrite.Rejected{}, remotewrite.Counts{}
	writers.Put(w)
}
