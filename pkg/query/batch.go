package query

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of one batch. A series is never divided.
const (
	// batchSeries is the number of series, batchBytes about the memory of their
	// labels and chunks. The first batch is small, so that the evaluation begins soon.
	batchSeries     = 256
	batchBytes      = 256 << 10
	firstBatchBytes = 16 << 10
)

// batch is a part of a stream: series with all their sources, in memory that they
// share. The memory is used again when all of them are released.
type batch struct {
	stream *stream
	// series has its capacity from the beginning: its elements never move.
	series  []streamSeries
	sources []source
	chunks  []storeapi.Chunk
	// size is about that of labels and chunks, held what the account counts for them.
	size int64
	held held
	// number is that of the loans.
	number int
	// inUse counts the series that are not released yet, and the reader of the stream.
	inUse atomic.Int64
}

// reset drops the content, so that the memory of the frames is free.
func (b *batch) reset() {
	clear(b.series)
	clear(b.sources)
	clear(b.chunks)
	b.series, b.sources, b.chunks = b.series[:0], b.sources[:0], b.chunks[:0]
	b.size, b.held = 0, held{}
}

// release says that one user of the batch needs it no more.
func (b *batch) release() {
	if b.inUse.Add(-1) == 0 {
		b.stream.recycle(b)
	}
}

// streamSeries implements eval.Series.
type streamSeries struct {
	series
	batch *batch
}

// Decode implements eval.Series.
func (s *streamSeries) Decode(dst *eval.Samples) error { return s.decode(dst) }

// Release implements eval.Series. The caller releases each series at most once.
func (s *streamSeries) Release() { s.batch.release() }

// run reads the stream of the stores to its end and passes batches on.
func (s *stream) run(ctx context.Context, open func() storeapi.SeriesSet) {
	defer close(s.batches)
	defer s.pause()
	if !s.receive(ctx) {
		s.err = ended(ctx, nil)
		return
	}
	s.selection.open(ctx, s.view, open)
	s.loans.begin(s.set)
	s.finish(ctx, s.view, s.readBatches(ctx))
}

// receive takes a place in the gate; false means that ctx has ended.
func (s *stream) receive(ctx context.Context) bool {
	select {
	case s.gate <- struct{}{}:
		s.receiving = true
	case <-ctx.Done():
	}
	return s.receiving
}

// pause gives the place back.
func (s *stream) pause() {
	if s.receiving {
		s.receiving = false
		<-s.gate
	}
}

// pass gives a batch to the reader. While it waits for the reader it has no place in
// the gate.
func (s *stream) pass(ctx context.Context, b *batch) error {
	b.tidy()
	spent := s.loans.spent()
	s.mtx.Lock()
	b.number = s.loans.add(spent)
	s.mtx.Unlock()
	b.inUse.Store(int64(len(b.series)) + 1)
	select {
	case s.batches <- b:
		return nil
	default:
	}
	s.pause()
	select {
	case s.batches <- b:
	case <-ctx.Done():
		return ctx.Err()
	}
	if !s.receive(ctx) {
		return ctx.Err()
	}
	return nil
}

func (s *stream) newBatch() *batch {
	select {
	case b := <-s.free:
		return b
	default:
	}
	return &batch{stream: s, series: make([]streamSeries, 0, batchSeries)}
}

// readBatches makes batches of the series of the stores. Series with equal keys, which
// follow each other, are the sources of one series of the result.
func (s *stream) readBatches(ctx context.Context) error {
	var (
		b       = s.newBatch()
		full    labels.Labels // of the last series that was read
		results int64
		most    int64 = firstBatchBytes
	)
	for s.set.Next() {
		at := s.set.At()
		order := -1 // the first series begins a result
		if results > 0 {
			order = s.order.CompareKeys(full, at.Labels)
		}
		switch {
		case order > 0:
			// A fan-out never does so; with other stores the query is evaluated another way.
			return fmt.Errorf("%w: %s comes after %s, which is not in order", eval.ErrUnsupported, at.Labels, full)
		case order < 0:
			if s.group.limit > 0 && results == int64(s.group.limit) {
				return s.passLast(ctx, b)
			}
			if len(b.series) == batchSeries || b.size >= most {
				if err := s.pass(ctx, b); err != nil {
					return err
				}
				b, most = s.newBatch(), min(2*most, batchBytes)
			}
			results++
			if err := s.account.streams(ctx, results, s.steps); err != nil {
				s.cancel() // the stores need not go on
				return err
			}
			b.tidy()
			b.begin(s.order.Key(at.Labels))
		}
		newSeries := order != 0 || !labels.Equal(full, at.Labels)
		full = at.Labels
		if err := s.addSource(ctx, b, at, newSeries); err != nil {
			return err
		}
	}
	return s.passLast(ctx, b)
}

func (s *stream) passLast(ctx context.Context, b *batch) error {
	if len(b.series) == 0 {
		return nil
	}
	return s.pass(ctx, b)
}

// begin adds a series without sources.
func (b *batch) begin(lset labels.Labels) {
	b.series = append(b.series, streamSeries{batch: b, series: series{view: b.stream.view, lset: lset}})
}

// tidy puts the chunks of the last series in order, as reader.tidy does.
func (b *batch) tidy() {
	if n := len(b.series); n > 0 {
		b.series[n-1].tidy()
	}
}

// addSource adds what the stores sent of one source to the last series of the batch.
func (s *stream) addSource(ctx context.Context, b *batch, at storeapi.Series, newSeries bool) error {
	start := len(b.chunks)
	b.chunks = append(b.chunks, at.Chunks...)
	at.Chunks = b.chunks[start:len(b.chunks):len(b.chunks)]
	b.size += sizeOf(at)
	chunks, cost, err := s.take(ctx, s.view, at, newSeries)
	s.charged(b, cost)
	if err != nil {
		return err
	}
	one := &b.series[len(b.series)-1].series
	id := s.ring.Key(at.Labels)
	for i := range one.sources {
		if have := &one.sources[i]; labels.Equal(have.id, id) {
			// Their capacity ends where they end, so this copies the first time.
			have.chunks, have.parts = append(have.chunks, chunks...), true
			return nil
		}
	}
	first := len(b.sources) - len(one.sources)
	b.sources = append(b.sources, source{id: id, chunks: chunks})
	one.sources = b.sources[first:len(b.sources):len(b.sources)]
	return nil
}

// sizeOf is about the memory of a series, in bytes.
func sizeOf(s storeapi.Series) int64 {
	n := int64(s.Labels.ByteSize()) + int64(len(s.Chunks))*chunkOverhead
	for i := range s.Chunks {
		n += weigh(&s.Chunks[i]).memory
	}
	return n
}
