package bucketblock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// columnsObject is the columns object of a block.
type columnsObject struct {
	blockcolumns.Object
	there bool
	// failed is when it was last found unusable, in unix nanoseconds; 0 means never.
	failed atomic.Int64
}

// usable says whether the object is to be tried.
func (o *columnsObject) usable(now time.Time) bool {
	failed := o.failed.Load()
	return o.there && (failed == 0 || now.UnixNano()-failed >= int64(objectPause))
}

const (
	// objectFile is the number of the columns object among the files of a block.
	objectFile = math.MaxUint32
	// mostObjectBytes bounds the chunks that a request reads of a columns object, and
	// mostObjectSeries the series that it looks at: a request for more reads the block, whose
	// series are in the order of the answer.
	mostObjectBytes  = 256 << 10
	mostObjectSeries = 2 << 10
	// objectPause is how long an object is left alone that could not be used.
	objectPause = 5 * time.Minute
)

// find looks for the object among the files of a block. Two of them contradict each other.
func (o *columnsObject) find(sizes map[string]int64) {
	n := 0
	for rel, size := range sizes {
		if found, ok := blockcolumns.ParseName(rel); ok && (size < 0 || size == found.Size) {
			o.Object = found
			n++
		}
	}
	o.there = n == 1
}

// objectReader reads the columns object for one request.
type objectReader struct {
	r      *reader
	object pagecache.Object
	metric string
	pages  *pagecache.Pages // of the directory and the index
	held   int64            // bytes of their contents
	found  []blockcolumns.Found
}

// readObject answers the request from the columns object, if there is one and the request is
// for few series of one metric: it needs neither the index header nor the index. Otherwise
// done is false, and nothing was passed to emit.
func (r *reader) readObject(ctx context.Context, emit func(*batch) error) (done bool, err error) {
	or := r.openObject(ctx)
	if or == nil {
		return false, nil
	}
	defer or.close()
	if done, err = or.find(ctx); err != nil || !done || len(or.found) == 0 {
		return or.outcome(ctx, done, err)
	}
	r.perSeries = max(1, r.expectBytes())
	if err := or.admit(ctx); err != nil {
		return true, err
	}
	var out *batch
	err = r.inTurn(ctx, &r.chunksCached, func() (err error) {
		out, err = or.read(ctx)
		return err
	})
	done, err = or.outcome(ctx, true, err)
	if done && err == nil && len(out.items) > 0 {
		if err = emit(out); err == nil {
			return true, nil // the batch belongs to the caller
		}
	}
	out.release()
	return done, err
}

// openObject returns nil when there is no object, or the request is not one for it.
func (r *reader) openObject(ctx context.Context) *objectReader {
	o := &r.b.object
	if r.q.SkipChunks || r.b.meta.Resolution() != 0 || !o.usable(time.Now()) {
		return nil
	}
	metric, ok := narrow(r.q.Matchers)
	if !ok {
		return nil
	}
	object := pagecache.Object{
		Block: r.b.meta.ULID, File: objectFile, Name: block.Path(r.b.meta.ULID, o.Rel), Size: o.Size, Tenant: tenant.FromContext(ctx),
	}
	return &objectReader{r: r, object: object, metric: metric, pages: r.b.env.Pages.Open(object, r.q.Account)}
}

func (or *objectReader) close() {
	or.pages.Recycle()
	or.r.q.Account.Drop(or.held)
}

// outcome decides what an error means: the block is read instead of an object that is
// damaged, missing or cannot be read.
func (or *objectReader) outcome(ctx context.Context, done bool, err error) (bool, error) {
	b := or.r.b
	var exceeded *limit.Error
	switch {
	case err == nil && done:
		b.env.ObjectReads.Add(1)
		return true, nil
	case err == nil:
		return false, nil
	case ctx.Err() != nil, errors.As(err, &exceeded):
		return true, b.fail(PartChunks, err)
	}
	b.object.failed.Store(time.Now().UnixNano())
	b.env.ObjectFailures.Add(1)
	if blockcolumns.IsCorrupt(err) || errors.Is(err, errDamaged) {
		b.env.Pages.Distrust(b.meta.ULID)
	}
	b.env.Logger.Warn("columns object unusable, reading the block instead", "block", b.meta.ULID, "object", or.object.Name, "err", err)
	return false, nil
}

// narrow returns the metric of a selector that restricts another label to values.
func narrow(ms []*labels.Matcher) (metric string, ok bool) {
	for _, m := range ms {
		switch {
		case m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual:
			metric = m.Value
		case m.Name == model.MetricNameLabel:
		case m.Type == labels.MatchEqual && m.Value != "", m.Type == labels.MatchRegexp && len(m.SetMatches()) > 0:
			ok = true
		}
	}
	return metric, ok && metric != ""
}

// load reads bytes of the object.
func (or *objectReader) load(ctx context.Context, ranges []pagecache.Range) error {
	counts, err := or.pages.Load(ctx, ranges)
	or.r.countSeries(counts)
	return err
}

// hold accounts for memory until the end of the request for the block.
func (or *objectReader) hold(ctx context.Context, n int64) error {
	if err := or.r.q.Account.Hold(ctx, n); err != nil {
		return err
	}
	or.held += n
	return nil
}

// directory finds the metric.
func (or *objectReader) directory(ctx context.Context) (m blockcolumns.Metric, found bool, err error) {
	o := or.r.b.object.Object
	s := o.DirectorySpan()
	rg := pagecache.Range{Off: s.Off, End: s.End}
	if err := or.load(ctx, []pagecache.Range{rg}); err != nil {
		return m, false, err
	}
	b, err := or.pages.Bytes(rg)
	if err != nil {
		return m, false, err
	}
	if err := or.hold(ctx, blockcolumns.Unpacked(b)); err != nil {
		return m, false, err
	}
	d, err := blockcolumns.ParseDirectory(o, b)
	if err != nil {
		return m, false, err
	}
	return d.Metric(or.metric)
}

// find finds the series of the request. few is false if the object has not all of them, or they
// are too many.
func (or *objectReader) find(ctx context.Context) (few bool, err error) {
	m, found, err := or.directory(ctx)
	if err != nil || m.LeftOut {
		return false, err
	}
	or.place(&m)
	if !found {
		return true, nil
	}
	search, ok := m.Search(or.metric, or.r.q.Matchers)
	if !ok {
		return true, nil
	}
	segments, series := m.Candidates(or.r.q.Matchers), 0
	for _, s := range segments {
		series += s.Series
	}
	if series > mostObjectSeries {
		return false, nil
	}
	if err := or.search(ctx, search, segments); err != nil {
		return false, err
	}
	var total int64
	for _, f := range or.found {
		total += f.Chunks.Len()
	}
	return total <= mostObjectBytes, nil
}

// place decides the placement by the labels of the metric.
func (or *objectReader) place(m *blockcolumns.Metric) {
	or.r.place.decide(func(name string) bool {
		return name == model.MetricNameLabel || slices.Contains(m.Order, name) ||
			slices.ContainsFunc(m.Constant, func(l labels.Label) bool { return l.Name == name })
	}, or.r.q)
}

// search reads the index of the segments at once, and finds the series, which it sorts.
func (or *objectReader) search(ctx context.Context, search *blockcolumns.Searcher, segments []blockcolumns.Segment) error {
	ranges := make([]pagecache.Range, len(segments))
	for i, s := range segments {
		ranges[i] = pagecache.Range{Off: s.Index.Off, End: s.Index.End}
	}
	if err := or.load(ctx, ranges); err != nil {
		return err
	}
	for i, s := range segments {
		b, err := or.pages.Bytes(ranges[i])
		if err != nil {
			return err
		}
		if err := or.hold(ctx, blockcolumns.Unpacked(b)); err != nil {
			return err
		}
		before := len(or.found)
		if or.found, err = search.Append(or.found, s, b); err != nil {
			return err
		}
		if err := or.hold(ctx, sizeOf(or.found[before:])); err != nil {
			return err
		}
		or.r.stats.SeriesTouched += int64(s.Series)
	}
	if keep := or.r.q.Keep; keep != nil {
		or.found = slices.DeleteFunc(or.found, func(f blockcolumns.Found) bool { return !keep(f.Labels) })
	}
	slices.SortFunc(or.found, func(a, b blockcolumns.Found) int { return labels.Compare(a.Labels, b.Labels) })
	or.r.stats.SeriesFetched += int64(len(or.found))
	return nil
}

// sizeOf is about the memory of the series.
func sizeOf(found []blockcolumns.Found) (n int64) {
	for _, f := range found {
		f.Labels.Range(func(l labels.Label) { n += int64(len(l.Name) + len(l.Value)) })
	}
	const each = 40 // blockcolumns.Found with its reference to the labels
	return n + int64(len(found))*each
}

// admit waits until the chunks may be read.
func (or *objectReader) admit(ctx context.Context) error {
	r := or.r
	if r.q.Admission == nil || r.q.Admission.Expect(int64(len(or.found))*(r.perSeries+seriesMemory)) {
		return nil
	}
	r.started() // others may start
	if err := r.q.Admission.Wait(ctx); err != nil {
		return err
	}
	r.q.Account.Read(time.Now()) // the client has waited too
	return nil
}

// read reads the chunks of all series. The batch is to be released, also after an error.
func (or *objectReader) read(ctx context.Context) (*batch, error) {
	r := or.r
	out := r.b.env.newBatch(r.q.Account)
	pages := r.b.env.Pages.Open(or.object, r.q.Account)
	out.pages = append(out.pages, pages)
	ranges := make([]pagecache.Range, len(or.found))
	for i, f := range or.found {
		ranges[i] = pagecache.Range{Off: f.Chunks.Off, End: f.Chunks.End}
	}
	counts, err := pages.Load(ctx, ranges)
	r.countChunks(counts)
	if err != nil {
		return out, err
	}
	add := objectBatch{q: r.q, out: out, ext: r.place.ext, builder: labels.NewScratchBuilder(16)}
	for i, f := range or.found {
		if r.q.Limit > 0 && len(out.items) == r.q.Limit {
			break
		}
		b, err := pages.Bytes(ranges[i])
		if err != nil {
			return out, err
		}
		if err := add.series(f.Labels, b); err != nil {
			return out, fmt.Errorf("chunks of series %s: %w", f.Labels, err)
		}
	}
	around := int64(len(out.chunks))*chunkMemory + add.size()
	if err := r.q.Account.Hold(ctx, around); err != nil {
		return out, err
	}
	out.around = around
	if n := add.size(); n > 0 {
		out.cache = r.b.env.Pages
		memory := out.cache.Buffer(n)
		out.columns = append(out.columns, memory)
		if err := add.encode(memory[:0]); err != nil {
			return out, err
		}
	}
	r.stats.ChunksTouched += int64(len(out.chunks))
	r.stats.ChunksFetched += int64(len(out.chunks))
	return out, nil
}
