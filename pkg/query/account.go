package query

import (
	"context"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// fetchLimits bound the data that one request reads from the stores; 0 means no limit.
type fetchLimits struct {
	// Samples counts those inside the chunks; a sample of a native histogram
	// counts for as many as it has bytes.
	Samples int64
	Series  int64
	Chunks  int64
	// Bytes counts labels and chunks.
	Bytes int64
	// Points counts those of the result, and Entries the names, values or metrics
	// of a list.
	Points, Entries int64
	// Own has the keys of the limits that a tenant has of its own.
	Own map[string]bool
}

// all are the limits, in the order of ownLimits.ofRequest.
func (l *fetchLimits) all() []*int64 {
	return []*int64{&l.Samples, &l.Series, &l.Chunks, &l.Bytes, &l.Points, &l.Entries}
}

// name is the flag of a limit, or the key in the file of limits where the tenant
// has its own.
func (l *fetchLimits) name(key, flag, tenant string) string {
	if l.Own[key] {
		return ofTenantFlag(key, tenant)
	}
	return flag
}

// account counts what one request reads, and takes memory for it from the
// budget of the process. It may be used concurrently.
type account struct {
	limits fetchLimits
	share  *share
	// about says which request it is.
	about requestInfo
	// stop ends the request.
	stop context.CancelCauseFunc

	mtx sync.Mutex
	// credit is memory taken from the budget and not yet used.
	credit  int64
	samples int64
	series  int64
	chunks  int64
	bytes   int64
	// evaluated are those of samples that are no longer held.
	evaluated int64
	// slot is the concurrency slot of the query that the request evaluates; nil
	// when it evaluates none.
	slot  *slot
	stage stage
	// since is when the stage began, and spent the time in each before it.
	since time.Time
	spent [stages]time.Duration

	// work is what the evaluation costs by now: the samples that it reads and the
	// points that it computes.
	work atomic.Int64
	// expected is what the same query cost the last time; 0 when that is not known.
	expected atomic.Int64
	// resultSteps are the steps of the result where that has the series that the
	// only selector has; else 0.
	resultSteps atomic.Int64
	// timed says that timings are taken.
	timed   atomic.Bool
	timings eval.Timings
}

// heavyWork is the work above which a query is heavy: about a tenth of a second of
// one core.
const heavyWork = 1_000_000

// heavy reports whether the request costs much, or did so the last time. The account may
// be nil.
func (a *account) heavy() bool {
	return a != nil && max(a.work.Load(), a.expected.Load()) > heavyWork
}

// tenantName is the tenant of the request. The account may be nil.
func (a *account) tenantName() string {
	if a == nil {
		return ""
	}
	return a.share.tenant
}

func (a *account) reject(name string) {
	if a != nil {
		a.share.budget.rejected.WithLabelValues(name).Inc()
	}
}

// enter changes the stage, and returns the function that changes it back.
func (a *account) enter(s stage) (back func()) {
	if a == nil {
		return func() {}
	}
	a.mtx.Lock()
	defer a.mtx.Unlock()
	before := a.stage
	a.change(s)
	return func() {
		a.mtx.Lock()
		defer a.mtx.Unlock()
		a.change(before)
	}
}

// startClock forgets the times of the stages before the evaluation.
func (a *account) startClock() {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.since, a.spent = time.Now(), [stages]time.Duration{}
}

// change needs the lock.
func (a *account) change(s stage) {
	now := time.Now()
	a.spent[a.stage] += now.Sub(a.since)
	a.stage, a.since = s, now
}

// workNow says where the time and the memory of the request went so far.
func (a *account) workNow() promapi.Work {
	held, waited := a.share.most()
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.change(a.stage)
	return promapi.Work{
		Queued: a.spent[stageQueued], Reading: a.spent[stageReading], Evaluating: a.spent[stageEvaluating],
		Decoding: time.Duration(a.timings.Decoding.Load()), Functions: time.Duration(a.timings.Functions.Load()),
		Sorting: time.Duration(a.timings.Sorting.Load()), WaitedForMemory: waited, PeakMemory: held,
		Series: a.series, Chunks: a.chunks, Samples: a.samples, Bytes: a.bytes,
	}
}

// block says that the request waits for what others hold. The caller calls unblock
// when it goes on.
func (a *account) block(s stage) (unblock func()) {
	if a == nil {
		return func() {}
	}
	back := a.enter(s)
	a.share.block()
	return func() {
		a.share.unblock()
		back()
	}
}

// creditStep is how much memory is taken from the budget at once, so that its
// lock is not taken for each series.
const creditStep = 256 << 10

// overhead of one series and one chunk beside its bytes.
const (
	seriesOverhead = 200
	chunkOverhead  = 88
)

type accountKey struct{}

func accountOf(ctx context.Context) *account {
	a, _ := ctx.Value(accountKey{}).(*account)
	return a
}

// read counts one series from a store. steps is the number of steps at which it
// will be evaluated. source names the store in the error. It returns the part of the
// series in what the request holds, for drop. A nil account counts nothing.
func (a *account) read(ctx context.Context, s storeapi.Series, steps int64, newSeries bool, source func() string) (held, error) {
	if a == nil {
		return held{}, nil
	}
	var samples, size, memory int64
	for i := range s.Chunks {
		w := weigh(&s.Chunks[i])
		samples, size, memory = samples+w.samples, size+w.bytes, memory+w.memory+chunkOverhead
	}
	var points int64
	if newSeries {
		points = steps
		l := int64(s.Labels.ByteSize())
		size += l
		memory += l + seriesOverhead + steps*16
	}
	err := a.add(ctx, counts{samples: samples, chunks: int64(len(s.Chunks)), bytes: size, series: btoi(newSeries), points: points}, memory, source)
	return held{memory: memory, samples: samples}, err
}

// held is a part of what a request holds at once.
type held struct{ memory, samples int64 }

func (h *held) add(o held) {
	h.memory += o.memory
	h.samples += o.samples
}

// drop gives back what the request no longer holds.
func (a *account) drop(h held) {
	if a == nil {
		return
	}
	a.mtx.Lock()
	a.evaluated += h.samples
	a.mtx.Unlock()
	a.give(h.memory)
}

// values counts label names or values.
func (a *account) values(ctx context.Context, vs []string) error {
	if a == nil {
		return nil
	}
	if err := a.entries(len(vs)); err != nil {
		return err
	}
	var size int64
	for _, v := range vs {
		size += int64(len(v))
	}
	return a.add(ctx, counts{bytes: size}, 2*size+int64(len(vs))*32, func() string { return "all stores" })
}

// entries refuses a list that has too many names, values or metrics.
func (a *account) entries(n int) error {
	if a == nil || a.limits.Entries <= 0 || int64(n) <= a.limits.Entries {
		return nil
	}
	a.reject(limitList)
	return &limit.Error{
		What: "names or values in one answer", Flag: a.limits.name("max_list_entries", "--query.max-list-entries", a.share.tenant),
		Max: a.limits.Entries, Needed: int64(n), Detail: "use match[], a shorter range, or the parameter limit",
	}
}

// mostEntries is how many entries a store is asked for, given what the request wants;
// 0 means all. It is one above the limit, so that a longer list is seen.
func (a *account) mostEntries(wanted int) int {
	if a == nil || a.limits.Entries <= 0 || a.limits.Entries >= math.MaxInt32 {
		return wanted
	}
	most := int(a.limits.Entries) + 1
	if wanted > 0 {
		return min(wanted, most)
	}
	return most
}

// points refuses a result of more than the allowed series times steps.
func (a *account) points(n int64) error {
	if a == nil || a.limits.Points <= 0 || n <= a.limits.Points {
		return nil
	}
	a.reject(limitPoints)
	return &limit.Error{
		What: "points in the result", Flag: a.limits.name("max_result_points", "--query.max-result-points", a.share.tenant),
		Max: a.limits.Points, Needed: n, Detail: "series times steps; use a larger step, a shorter range, or an aggregation",
	}
}

// counts is what was read. points is how many points the engine computes of it.
type counts struct{ samples, series, chunks, bytes, points int64 }

func (a *account) add(ctx context.Context, c counts, memory int64, source func() string) error {
	a.work.Add(c.samples + c.points)
	a.mtx.Lock()
	a.samples += c.samples
	a.series += c.series
	a.chunks += c.chunks
	a.bytes += c.bytes
	err := a.exceeded(counts{}, source)
	a.mtx.Unlock()
	if err != nil {
		return err
	}
	return a.take(ctx, memory)
}

// exceeded returns the error of the limit that the data read, with more, exceeds. It
// needs the lock.
func (a *account) exceeded(more counts, source func() string) error {
	over := func(got, most int64) bool { return most > 0 && got > most }
	// This is asked for every series, and nearly always in vain.
	if l := &a.limits; !over(a.samples-a.evaluated, l.Samples) && !over(a.series+more.series, l.Series) &&
		!over(a.chunks+more.chunks, l.Chunks) && !over(a.bytes+more.bytes, l.Bytes) {
		return nil
	}
	for _, l := range []struct {
		name, what, flag, key string
		got, most             int64
	}{
		{limitSamples, "samples", "--query.max-samples", "max_samples", a.samples - a.evaluated, a.limits.Samples},
		{limitSeries, "series", "--query.max-fetched-series", "max_fetched_series", a.series + more.series, a.limits.Series},
		{limitChunks, "chunks", "--query.max-fetched-chunks", "max_fetched_chunks", a.chunks + more.chunks, a.limits.Chunks},
		{limitBytes, "bytes", "--query.max-fetched-bytes", "max_fetched_bytes", a.bytes + more.bytes, a.limits.Bytes},
	} {
		if over(l.got, l.most) {
			a.reject(l.name)
			return &limit.Error{What: l.what, Flag: a.limits.name(l.key, l.flag, a.share.tenant), Max: l.most, Needed: l.got, Detail: "read from the stores, reached at " + source()}
		}
	}
	return nil
}

// take uses n bytes of the budget until the request ends.
func (a *account) take(ctx context.Context, n int64) error {
	if a == nil {
		return nil
	}
	a.mtx.Lock()
	if a.credit >= n {
		a.credit -= n
		a.mtx.Unlock()
		return nil
	}
	a.mtx.Unlock()
	// Several selectors may come here at once: each takes what it needs.
	got := max(n, creditStep)
	if err := a.share.take(ctx, got); err != nil {
		return err
	}
	a.mtx.Lock()
	a.credit += got - n
	a.mtx.Unlock()
	return nil
}

// restart returns everything and counts from 0, for a request that begins anew.
// Nothing of it runs.
func (a *account) restart() {
	a.mtx.Lock()
	a.credit, a.samples, a.series, a.chunks, a.bytes, a.slot = 0, 0, 0, 0, 0, nil
	a.mtx.Unlock()
	a.resultSteps.Store(0)
	a.share.restart()
}

// give returns n bytes that take has taken, while the request runs. The caller no
// longer holds what they were taken for.
func (a *account) give(n int64) {
	if a == nil || n <= 0 {
		return
	}
	a.mtx.Lock()
	a.credit += n
	var back int64
	if a.credit > 2*creditStep {
		back, a.credit = a.credit-creditStep, creditStep
	}
	a.mtx.Unlock()
	a.share.give(back)
}

// keeps refuses a selector whose series, with all their steps, would be too large a
// result.
func (a *account) keeps(series int64) error {
	if a == nil || a.resultSteps.Load() == 0 {
		return nil
	}
	return a.points(saturated(series, a.resultSteps.Load()))
}

// streams counts one more series, the n-th, that a stream passes on to be evaluated at
// steps. Where the result has the series too, its memory is taken for good.
func (a *account) streams(ctx context.Context, n, steps int64) error {
	if a == nil {
		return nil
	}
	a.work.Add(steps)
	kept := a.resultSteps.Load()
	if kept == 0 {
		return nil
	}
	if err := a.points(saturated(n, kept)); err != nil {
		return err
	}
	return a.take(ctx, kept*16)
}

// weight is what a chunk counts for: samples, bytes, and memory. The bytes of a chunk that a
// store keeps in another form are those of the chunk in its block, so that a limit does not
// depend on what is kept.
type weight struct{ samples, bytes, memory int64 }

func weigh(c *storeapi.Chunk) (w weight) {
	if c.Aggr == nil {
		w = weight{samples: weighData(&c.Raw), bytes: int64(len(c.Raw.Bytes)), memory: int64(len(c.Raw.Bytes))}
		if c.Raw.Encoding == columnchunk.Encoding {
			w.bytes = columnchunk.SourceSize(c.Raw.Bytes)
		}
		return w
	}
	for _, d := range []*storeapi.Data{&c.Aggr.Count, &c.Aggr.Sum, &c.Aggr.Min, &c.Aggr.Max, &c.Aggr.Counter} {
		w.samples += weighData(d)
		w.bytes += int64(len(d.Bytes))
	}
	w.memory = w.bytes
	return w
}

func weighData(d *storeapi.Data) int64 {
	if len(d.Bytes) < 2 {
		return 0
	}
	// All encodings begin with the number of samples.
	n := int64(binary.BigEndian.Uint16(d.Bytes))
	switch d.Encoding {
	case chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		return max(n, int64(len(d.Bytes)))
	case chunkenc.EncHistogramST, chunkenc.EncFloatHistogramST:
		const countBits = 0x3fff // the other two say how the counter goes on
		return max(n&countBits, int64(len(d.Bytes)))
	}
	return n
}

// resultMemory estimates the memory of a result. Its form in JSON is printed in pieces
// of a bounded size.
func resultMemory(r *promql.Result) int64 {
	const point, label = 16, 1
	var n int64
	switch v := r.Value.(type) {
	case promql.Matrix:
		for i := range v {
			n += seriesOverhead + label*int64(v[i].Metric.ByteSize()) + point*int64(len(v[i].Floats))
			for _, h := range v[i].Histograms {
				n += int64(h.H.Size())
			}
		}
	case promql.Vector:
		for i := range v {
			n += seriesOverhead + label*int64(v[i].Metric.ByteSize()) + point
			if v[i].H != nil {
				n += int64(v[i].H.Size())
			}
		}
	case promql.String:
		n = label * int64(len(v.V))
	}
	return n
}

// resultSeries is the number of series of a result.
func resultSeries(r *promql.Result) int64 {
	switch v := r.Value.(type) {
	case promql.Matrix:
		return int64(len(v))
	case promql.Vector:
		return int64(len(v))
	}
	return 1
}

func btoi(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
