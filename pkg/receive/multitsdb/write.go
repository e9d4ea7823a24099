package multitsdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// writer appends one batch. It is reused; nothing of a batch stays in it.
type writer struct {
	t        *tenantDB
	app      storage.Appender
	timed    storage.AppenderV2 // takes the samples when start timestamps are stored, otherwise nil
	limits   Limits
	times    timeRange
	renamer  renamer
	age      uint64 // of the cache
	aliased  bool   // the cache has aliases
	found    []cacheEntry
	hashes   []uint32
	fresh    []freshEntry
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

type freshEntry struct {
	hash  uint32
	entry cacheEntry
	// raw are the label bytes, when they are not those of the stored series.
	raw []byte
}

// writers holds idle writers.
var writers = sync.Pool{New: func() any { return new(writer) }}

// write appends the series with the given indexes, or all when series is nil,
// and commits them to the write-ahead log. What cannot be stored is left out and
// reported in the error; everything else is stored even so. The caller has
// entered the tenant.
func (t *tenantDB) write(ctx context.Context, b *remotewrite.Batch, series []uint32) error {
	w := writers.Get().(*writer)
	defer w.release()
	w.t, w.app, w.limits = t, t.db.Appender(ctx), t.limits()
	if t.cfg.StartTimestamps {
		w.timed = t.db.AppenderV2(ctx)
	}
	w.times = t.cfg.acceptable(time.Now())
	w.renamer.external = t.cfg.External(t.id)
	w.age = t.cache.use(w.renamer.external)
	n := b.Len()
	if series != nil {
		n = len(series)
	}
	w.batch, w.only = b, series
	w.lookup(b, series, n)
	w.repeats.start(n)
	for i := range n {
		w.index, w.current = w.at(i), 0
		w.series(b.Series(w.index), w.found[i], w.hashes[i])
		w.repeats.add(w.current)
	}
	if err := w.commit(); err != nil {
		return remotewrite.Errorf(remotewrite.Unavailable, "tenant %s: write to the write-ahead log: %w", t.id, err)
	}
	w.remember()
	w.describe()
	t.observe(&w.stored, &w.rejected)
	return w.rejected.Err(t.id, &w.stored)
}

// describe notes the metadata of the batch. It is told last: a message that is
// malformed must not cost a sample.
func (w *writer) describe() {
	for _, m := range w.batch.Metadata() {
		if err := w.t.metadata.family(m); err != nil {
			w.rejected.Add(remotewrite.Invalid, "malformed metadata", 1, err.Error)
		}
	}
}

// at is the index in the batch of the i-th series to write.
func (w *writer) at(i int) int {
	if w.only == nil {
		return i
	}
	return int(w.only[i])
}

// commit writes samples before the exemplars that belong to them.
func (w *writer) commit() error {
	if w.timed == nil {
		return w.app.Commit()
	}
	if err := w.timed.Commit(); err != nil {
		return errors.Join(err, w.app.Rollback())
	}
	return w.app.Commit()
}

// lookup finds all known series in one go.
func (w *writer) lookup(b *remotewrite.Batch, series []uint32, n int) {
	if cap(w.found) < n {
		w.found, w.hashes = make([]cacheEntry, n), make([]uint32, n)
	}
	w.found, w.hashes = w.found[:n], w.hashes[:n]
	c := w.t.cache
	c.mu.RLock()
	defer c.mu.RUnlock()
	w.aliased = len(c.aliases.by) > 0
	c.lookupAll(func(i int) []byte {
		if series != nil {
			i = int(series[i])
		}
		return b.Series(i).Labels
	}, w.hashes, w.found)
}

// series appends the items of one series.
func (w *writer) series(s remotewrite.Series, known cacheEntry, hash uint32) {
	isNew := known.ref == 0
	if isNew {
		var err error
		if known, isNew, err = w.unknown(s.Labels); err != nil {
			w.reject(err, s.Items())
			w.previous = 0
			return
		}
	}
	before := known.ref
	switch {
	case known.ref == 0:
		w.newest = newest{}
	case known.ref != w.previous:
		w.newest = w.newestOf(known.ref)
	}
	items, exemplars := remotewrite.ItemReader{B: s.Rest}, false
	for {
		item, msg, ok := items.Next()
		if !ok {
			break
		}
		switch item {
		case remotewrite.ItemSample:
			w.sample(msg, s, &known)
		case remotewrite.ItemHistogram:
			w.histogram(msg, s, &known)
		case remotewrite.ItemMetadata:
			w.t.metadata.series(known.labels.Get(model.MetricNameLabel), msg, s.Rest)
		case remotewrite.ItemExemplar:
			exemplars = true
		}
	}
	if exemplars {
		// They need the series, which their own request may just have made.
		w.exemplars(s, &known)
	}
	w.previous, w.current = known.ref, known.ref
	if _, ok := w.repeats.newest[known.ref]; ok {
		w.repeats.newest[known.ref] = w.newest
	}
	if known.ref != 0 && (isNew || known.ref != before) {
		w.learn(hash, s.Labels, known)
	}
}

// unknown finds a series whose label bytes are not those of a stored one. isNew
// says that they should be learned.
func (w *writer) unknown(raw []byte) (known cacheEntry, isNew bool, err error) {
	if w.aliased {
		if known, ok := w.t.cache.alias(raw); ok {
			return known, false, nil
		}
	}
	ls, err := w.builder.Build(raw, w.limits.Labels)
	if err != nil {
		return cacheEntry{}, false, err
	}
	ls, renamed := w.renamer.rename(ls)
	// The series may be in the head without being in the cache: then its own
	// label set is used, so that there is only one copy of it.
	known.labels = ls
	if finder, ok := w.app.(storage.GetRef); ok {
		if ref, own := finder.GetRef(ls, ls.Hash()); ref != 0 {
			known.ref, known.labels = ref, own
		}
	}
	if renamed != "" {
		w.t.renamed(renamed, ls)
	}
	return known, true, nil
}

// learn notes a reference that the cache does not have yet.
func (w *writer) learn(hash uint32, raw []byte, known cacheEntry) {
	w.raw = remotewrite.AppendLabels(w.raw[:0], known.labels)
	f := freshEntry{hash: hash, entry: known}
	if !bytes.Equal(w.raw, raw) {
		f.raw = raw
	}
	w.fresh = append(w.fresh, f)
}

func (w *writer) sample(msg []byte, s remotewrite.Series, known *cacheEntry) {
	one := remotewrite.Counts{Samples: 1}
	v, err := remotewrite.ParseSample(msg)
	if err != nil {
		w.reject(err, one)
		return
	}
	if err := w.times.check(v.T); err != nil {
		w.rejectTime(err, v.T, s, one)
		return
	}
	if err := w.newest.float(v.T, v.V, w.t.cfg.OutOfOrderWindow > 0); err != nil {
		w.rejectAt(err, v.T, s, one)
		return
	}
	var ref storage.SeriesRef
	if w.timed != nil {
		ref, err = w.timed.Append(known.ref, known.labels, startTime(v.ST, v.T), v.T, v.V, nil, nil, storage.AppendV2Options{})
	} else {
		ref, err = w.app.Append(known.ref, known.labels, v.T, v.V)
	}
	if err != nil {
		w.rejectAt(err, v.T, s, one)
		return
	}
	known.ref = ref
	w.stored.Samples++
}

func (w *writer) histogram(msg []byte, s remotewrite.Series, known *cacheEntry) {
	one := remotewrite.Counts{Histograms: 1}
	h, err := remotewrite.ParseHistogram(msg)
	if err != nil {
		w.reject(err, one)
		return
	}
	if err := w.times.check(h.T); err != nil {
		w.rejectTime(err, h.T, s, one)
		return
	}
	if err := w.newest.histogram(h, w.t.cfg.OutOfOrderWindow > 0); err != nil {
		w.rejectAt(err, h.T, s, one)
		return
	}
	var ref storage.SeriesRef
	if w.timed != nil {
		ref, err = w.timed.Append(known.ref, known.labels, startTime(h.ST, h.T), h.T, 0, h.Int, h.Float, storage.AppendV2Options{})
	} else {
		ref, err = w.app.AppendHistogram(known.ref, known.labels, h.T, h.Int, h.Float)
	}
	if err != nil {
		w.rejectAt(err, h.T, s, one)
		return
	}
	known.ref = ref
	w.stored.Histograms++
}

// exemplars stores the exemplars of a series that exists. Those of a series
// without samples are dropped without a word: the sender can do nothing about
// it.
func (w *writer) exemplars(s remotewrite.Series, known *cacheEntry) {
	if w.t.cfg.MaxExemplars <= 0 || known.ref == 0 {
		return
	}
	items := remotewrite.ItemReader{B: s.Rest}
	for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
		if item == remotewrite.ItemExemplar {
			w.exemplar(msg, s, known)
		}
	}
}

func (w *writer) exemplar(msg []byte, s remotewrite.Series, known *cacheEntry) {
	one := remotewrite.Counts{Exemplars: 1}
	e, err := remotewrite.ParseExemplar(msg)
	if err != nil {
		w.reject(err, one)
		return
	}
	if err := w.times.check(e.Ts); err != nil {
		w.rejectTime(err, e.Ts, s, one)
		return
	}
	if known.ref == 0 {
		return
	}
	if _, err := w.app.AppendExemplar(known.ref, known.labels, e); err != nil {
		w.rejectAt(err, e.Ts, s, one)
		return
	}
	w.stored.Exemplars++
}

// rejectTime notes data with a time that is not accepted.
func (w *writer) rejectTime(err error, t int64, s remotewrite.Series, missing remotewrite.Counts) {
	w.rejected.Miss(w.index, missing)
	reason := "too-far-in-future"
	if errors.Is(err, errPast) {
		reason = "too-far-in-past"
	}
	w.rejected.Add(remotewrite.Conflict, reason, 1, func() string {
		return fmt.Sprintf("%s (series %s)", w.t.cfg.outside(err, t), remotewrite.Text(s.Labels))
	})
}

// reject notes data that is wrong in itself.
func (w *writer) reject(err error, missing remotewrite.Counts) {
	w.rejected.Miss(w.index, missing)
	var invalid *remotewrite.InvalidSeriesError
	reason := "malformed"
	if errors.As(err, &invalid) {
		reason = invalid.Reason
	}
	w.rejected.Add(remotewrite.Invalid, reason, 1, err.Error)
}

// rejectAt notes data that the TSDB did not take.
func (w *writer) rejectAt(err error, t int64, s remotewrite.Series, missing remotewrite.Counts) {
	w.rejected.Miss(w.index, missing)
	kind, reason := classify(err)
	w.rejected.Add(kind, reason, 1, func() string {
		return fmt.Sprintf("%s at %s (series %s)", err, timeText(t), remotewrite.Text(s.Labels))
	})
}

// classify says what an error of the TSDB means for the sender.
func classify(err error) (remotewrite.Kind, string) {
	switch {
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return remotewrite.Conflict, "out of order sample"
	case errors.Is(err, storage.ErrTooOldSample):
		return remotewrite.Conflict, "too old sample"
	case errors.Is(err, storage.ErrOutOfBounds):
		return remotewrite.Conflict, "out of bounds"
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return remotewrite.Conflict, "duplicate sample for timestamp"
	case errors.Is(err, storage.ErrOutOfOrderExemplar):
		return remotewrite.Conflict, "out of order exemplar"
	case errors.Is(err, storage.ErrExemplarLabelLength):
		return remotewrite.Conflict, "exemplar label length"
	case errors.Is(err, errSeriesLimit):
		return remotewrite.LimitExceeded, "active-series limit"
	case errors.Is(err, tsdb.ErrInvalidSample):
		return remotewrite.Invalid, "invalid sample"
	}
	return remotewrite.Other, "storage"
}

// remember puts the new references into the cache.
func (w *writer) remember() {
	if len(w.fresh) == 0 {
		return
	}
	c := w.t.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age != w.age {
		return // the external labels have changed meanwhile
	}
	for _, f := range w.fresh {
		if f.raw != nil {
			c.aliases.put(f.raw, f.entry)
			continue
		}
		c.put(f.hash, f.entry)
	}
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
