package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
)

// content is the set of raw samples that a block holds, or was made of.
type content struct {
	meta   *block.Meta
	stream *ledger
	sets   []indices // by series of the stream
}

// indices is a set of indices of samples.
type indices struct {
	first int // word
	words []uint64
}

func (x *indices) add(i int) {
	w := i / 64
	x.reach(w)
	x.words[w-x.first] |= 1 << (i % 64)
}

func (x *indices) has(i int) bool {
	w := i/64 - x.first
	return w >= 0 && w < len(x.words) && x.words[w]&(1<<(i%64)) != 0
}

func (x *indices) merge(y indices) {
	if len(y.words) == 0 {
		return
	}
	x.reach(y.first)
	x.reach(y.first + len(y.words) - 1)
	for w, word := range y.words {
		x.words[y.first+w-x.first] |= word
	}
}

// reach makes room for a word.
func (x *indices) reach(w int) {
	if len(x.words) == 0 {
		x.first = w
	}
	if w < x.first {
		x.words = append(make([]uint64, x.first-w), x.words...)
		x.first = w
	}
	if n := w - x.first + 1 - len(x.words); n > 0 {
		x.words = append(x.words, make([]uint64, n)...)
	}
}

func (x *indices) each(f func(i int)) {
	for w, word := range x.words {
		for b := range 64 {
			if word&(1<<b) != 0 {
				f((x.first+w)*64 + b)
			}
		}
	}
}

// blocks checks each block that becomes visible in the bucket (I4, I5, I10).
type blocks struct {
	bucket, keep string
	ledgers      []*ledger

	queue chan ulid.ULID

	mu       sync.Mutex
	contents map[ulid.ULID]*content
	waiting  int
	// checked blocks, by what they are.
	checked map[string]int
	samples int
	wrong   error
}

func newBlocks(bucket, keep string, ledgers []*ledger) *blocks {
	return &blocks{
		bucket: bucket, keep: keep, ledgers: ledgers, queue: make(chan ulid.ULID, 10_000),
		contents: map[ulid.ULID]*content{}, checked: map[string]int{},
	}
}

// add keeps the files of a block, whatever happens to it in the bucket, and queues it.
func (b *blocks) add(id ulid.ULID) (*block.Meta, error) {
	from, to := filepath.Join(b.bucket, id.String()), filepath.Join(b.keep, id.String())
	if _, err := os.Stat(to); err == nil {
		return block.ReadMetaDir(to) // written again
	}
	if err := os.MkdirAll(filepath.Join(to, "chunks"), 0o755); err != nil {
		return nil, fmt.Errorf("keep a block: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(from, "chunks", "*"))
	if err != nil {
		return nil, fmt.Errorf("list a block: %w", err)
	}
	for _, f := range append(files, filepath.Join(from, "index"), filepath.Join(from, block.MetaFile)) {
		rel, err := filepath.Rel(from, f)
		if err != nil {
			return nil, err
		}
		if err := os.Link(f, filepath.Join(to, rel)); err != nil {
			return nil, fmt.Errorf("I4: %s is visible, but not whole: %w", id, err)
		}
	}
	m, err := block.ReadMetaDir(to)
	if err != nil {
		return nil, fmt.Errorf("I4: %s is visible, but its meta.json is not sound: %w", id, err)
	}
	b.mu.Lock()
	b.waiting++
	b.mu.Unlock()
	b.queue <- id
	return m, nil
}

// run checks blocks in the order in which they became visible, until the queue is closed.
func (b *blocks) run() {
	for id := range b.queue {
		err := b.check(id)
		b.mu.Lock()
		b.waiting--
		if err != nil && b.wrong == nil {
			b.wrong = err
		}
		b.mu.Unlock()
	}
}

// violation is the first fault that was found, and how many blocks wait for their check.
func (b *blocks) violation() (waiting int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting, b.wrong
}

// check reads a block with Prometheus's library and compares it with the model and with
// the blocks that it was made of. Its files are removed afterwards, when it is sound.
func (b *blocks) check(id ulid.ULID) error {
	dir := filepath.Join(b.keep, id.String())
	report, err := block.Verify(context.Background(), dir)
	if err != nil {
		return fmt.Errorf("I4: %s in %s: %w", id, dir, err)
	}
	m := report.Meta
	if m.ULID != id {
		return fmt.Errorf("I4: the meta.json of %s has the id %s", id, m.ULID)
	}
	c, err := b.read(dir, m)
	if err != nil {
		return fmt.Errorf("%s (%s) in %s: %w", id, describe(m), dir, err)
	}
	if err := b.origin(c); err != nil {
		return fmt.Errorf("%s (%s) in %s: %w", id, describe(m), dir, err)
	}
	b.mu.Lock()
	b.contents[id] = c
	b.checked[sort(m)]++
	b.samples += int(m.Stats.NumSamples)
	b.mu.Unlock()
	return os.RemoveAll(dir)
}

// sort says what a block is.
func sort(m *block.Meta) string {
	switch {
	case m.Resolution() == block.Resolution5m:
		return "5m"
	case m.Resolution() == block.Resolution1h:
		return "1h"
	case m.Compaction.Level > 1:
		return "merged"
	}
	return "raw"
}

func describe(m *block.Meta) string {
	return fmt.Sprintf("%s of %s, level %d, %v, %s to %s", sort(m), m.Thanos.Source, m.Compaction.Level, m.Thanos.Labels, ms(m.MinTime), ms(m.MaxTime))
}

// ledgerOf is that of the stream whose samples a block holds.
func (b *blocks) ledgerOf(m *block.Meta) (*ledger, error) {
	for _, l := range b.ledgers {
		if l.tenant == m.Thanos.Labels["tenant_id"] && l.replica == m.Thanos.Labels["replica"] {
			return l, nil
		}
	}
	return nil, fmt.Errorf("I3: its external labels %v are those of no stream", m.Thanos.Labels)
}

// read reads all samples. Those of raw blocks must have been sent; those of coarser
// blocks are compared in downsampled.
func (b *blocks) read(dir string, m *block.Meta) (*content, error) {
	l, err := b.ledgerOf(m)
	if err != nil {
		return nil, err
	}
	c := &content{meta: m, stream: l, sets: make([]indices, len(l.series))}
	coarse := m.Resolution() != 0
	if coarse {
		raw, err := b.rawOf(m)
		if err != nil {
			return nil, err
		}
		c.sets = raw.sets
	}
	blk, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, aggr.NewPool(), nil)
	if err != nil {
		return nil, fmt.Errorf("I10: Prometheus cannot open it: %w", err)
	}
	defer blk.Close()
	ir, err := blk.Index()
	if err != nil {
		return nil, fmt.Errorf("I10: Prometheus cannot read its index: %w", err)
	}
	defer ir.Close()
	cr, err := blk.Chunks()
	if err != nil {
		return nil, fmt.Errorf("I10: Prometheus cannot read its chunks: %w", err)
	}
	defer cr.Close()
	return c, c.readAll(ir, cr, coarse)
}

// readAll reads all series of a block.
func (c *content) readAll(ir tsdb.IndexReader, cr tsdb.ChunkReader, coarse bool) error {
	name, value := index.AllPostingsKey()
	p, err := ir.Postings(context.Background(), name, value)
	if err != nil {
		return fmt.Errorf("I10: read the postings: %w", err)
	}
	var builder labels.ScratchBuilder
	var metas []chunks.Meta
	seen := map[int]*windows{}
	for p.Next() {
		if err := ir.Series(p.At(), &builder, &metas); err != nil {
			return fmt.Errorf("I10: read a series: %w", err)
		}
		ls := builder.Labels()
		which, err := c.stream.find(ls.Get)
		if err != nil {
			return fmt.Errorf("I2: %w", err)
		}
		for _, meta := range metas {
			chunk, _, err := cr.ChunkOrIterable(meta)
			if err != nil {
				return fmt.Errorf("I10: read a chunk of %s: %w", ls, err)
			}
			if coarse {
				if seen[which] == nil {
					seen[which] = newWindows(c, which)
				}
				err = seen[which].read(chunk)
			} else {
				err = c.readChunk(which, chunk)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", ls, err)
			}
		}
	}
	if coarse {
		err = c.complete(seen)
	}
	return errors.Join(err, p.Err())
}

// readChunk reads a chunk of raw samples.
func (c *content) readChunk(which int, chunk chunkenc.Chunk) error {
	s := c.stream.series[which]
	it := chunk.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		i, err := c.stream.index(it.AtT())
		if err != nil {
			return fmt.Errorf("I2: %w", err)
		}
		if it.AtT() < c.meta.MinTime || it.AtT() >= c.meta.MaxTime {
			return fmt.Errorf("I4: a sample at %s, outside of the block", ms(it.AtT()))
		}
		if c.stream.was(place{which, i}) == unsent {
			return fmt.Errorf("I2: a sample at %s that was never sent", ms(it.AtT()))
		}
		right := false
		switch {
		case typ == chunkenc.ValFloat:
			_, v := it.At()
			right = !s.isHistogram() && v == s.value(i)
		case s.isHistogram():
			_, h := it.AtFloatHistogram(nil)
			want := s.floatHistogram(i)
			want.CounterResetHint = h.CounterResetHint
			right = h.Equals(want)
		}
		if !right {
			return fmt.Errorf("I2: a wrong sample at %s (index %d), expected %s", ms(it.AtT()), i, c.stream.expected(which, i))
		}
		c.sets[which].add(i)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("I4: decode a chunk: %w", err)
	}
	return nil
}

// origin compares a block with those that it was made of.
func (b *blocks) origin(c *content) error {
	m := c.meta
	rewritten := len(m.Thanos.Rewrites) > 0
	if m.Compaction.Level <= 1 && m.Resolution() == 0 && !rewritten {
		if len(m.Compaction.Sources) != 1 || m.Compaction.Sources[0] != m.ULID {
			return fmt.Errorf("I4: its sources are %v", m.Compaction.Sources)
		}
		return nil
	}
	if m.Resolution() != 0 {
		return nil // compared while it was read
	}
	union := make([]indices, len(c.sets))
	var sources []ulid.ULID
	b.mu.Lock()
	defer b.mu.Unlock()
	parents := m.Compaction.Parents
	if rewritten {
		parents = parents[:1] // the others are what the first was made of
	}
	for _, parent := range parents {
		from := b.contents[parent.ULID]
		if from == nil && m.Thanos.Source == block.SourceSidecar {
			// Prometheus has merged overlapping blocks before they were shipped.
			return nil
		}
		if from == nil {
			return fmt.Errorf("I4: its parent %s was never seen", parent.ULID)
		}
		for which := range union {
			union[which].merge(from.sets[which])
		}
		sources = append(sources, from.meta.Compaction.Sources...)
	}
	slices.SortFunc(sources, ulid.ULID.Compare)
	sources = slices.Compact(sources)
	own := slices.SortedFunc(slices.Values(m.Compaction.Sources), ulid.ULID.Compare)
	if !slices.Equal(sources, own) {
		return fmt.Errorf("I4: its sources are %v, those of its parents %v", own, sources)
	}
	for which := range union {
		if err := sameIndices(c.stream, which, union[which], c.sets[which]); err != nil {
			return fmt.Errorf("I5: %w", err)
		}
	}
	return nil
}

// sameIndices compares the samples of one series before and after a merge.
func sameIndices(l *ledger, which int, before, after indices) error {
	err := error(nil)
	before.each(func(i int) {
		if err == nil && !after.has(i) && l.was(place{which, i}) < doomed {
			err = fmt.Errorf("%v lost the sample at %s", l.labels(l.series[which], i), ms(l.time(i)))
		}
	})
	after.each(func(i int) {
		if err == nil && !before.has(i) {
			err = fmt.Errorf("%v has a sample at %s that its sources do not have", l.labels(l.series[which], i), ms(l.time(i)))
		}
	})
	return err
}

// rawOf is the content of the raw block that a downsampled one stands for: the one with
// the same sources and times.
func (b *blocks) rawOf(m *block.Meta) (*content, error) {
	want := slices.SortedFunc(slices.Values(m.Compaction.Sources), ulid.ULID.Compare)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.contents {
		if c.meta.Resolution() != 0 || c.meta.MinTime != m.MinTime || c.meta.MaxTime != m.MaxTime {
			continue
		}
		if slices.Equal(want, slices.SortedFunc(slices.Values(c.meta.Compaction.Sources), ulid.ULID.Compare)) {
			return c, nil
		}
	}
	return nil, fmt.Errorf("I4: no raw block has its sources %v and times", want)
}

// holds says whether blocks have all samples of the ring that were acknowledged up to a time.
func (b *blocks) holds(ledgers []*ledger, until int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range ledgers {
		if l.replica != "" || l.present {
			continue
		}
		union := make([]indices, len(l.series))
		for _, c := range b.contents {
			if c.stream == l && c.meta.Resolution() == 0 {
				for which := range union {
					union[which].merge(c.sets[which])
				}
			}
		}
		w := l.snapshot(l.base-1, until)
		for which, states := range w.state {
			for at, st := range states {
				if st == acked && !union[which].has(w.first+at) {
					return false
				}
			}
		}
	}
	return true
}

// sameFloat compares floats, NaN with NaN.
func sameFloat(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
