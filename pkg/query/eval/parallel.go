package eval

import (
	"context"
	"sync"
)

// parallel evaluates the rest of the series of a leaf with several goroutines. One
// reads the stream and makes batches, the workers evaluate them, and the rows come
// out in the order of the stream.
type parallel struct {
	leaf    *leaf
	pending chan *batch
	jobs    chan *batch
	wg      sync.WaitGroup
	// series is the number that was read; it is complete after wait.
	series int64
	cur    *batch
}

// batch is a run of series and what they evaluate to.
type batch struct {
	series []Series
	rows   []*row
	err    error
	// last says that the stream has ended.
	last bool
	done chan struct{}
}

// batchWork is the work of a batch in samples and steps, batchPoints how many
// steps its rows have together at most: rows in flight are memory.
const (
	batchWork   = 100_000
	batchPoints = 64 << 10
	batchSeries = 64
)

// workers is the number of goroutines that may evaluate series now.
func (r *run) workers() int {
	if n := r.opts.Workers; n < 2 || r.opts.Crowded == nil || !r.opts.Crowded() {
		return n
	}
	return r.opts.Workers - 1
}

// parallel starts n workers, two at least.
func (l *leaf) parallel(n int) *parallel {
	p := &parallel{leaf: l, pending: make(chan *batch, n+1), jobs: make(chan *batch, n+1)}
	size := int(batchWork / max(l.work/l.series, 1))
	size = max(1, min(size, batchSeries, batchPoints/l.sc.grid.steps))
	p.wg.Add(n + 1)
	go func() {
		defer p.wg.Done()
		p.read(size)
	}()
	for i := range n {
		go func() {
			defer p.wg.Done()
			p.work(i)
		}()
	}
	return p
}

// read makes batches of the stream until it ends or the leaf is closed.
func (p *parallel) read(size int) {
	defer close(p.pending)
	defer close(p.jobs)
	for last := false; !last; {
		b := &batch{done: make(chan struct{})}
		b.err = p.fill(b, size)
		last = b.last || b.err != nil
		select {
		case p.pending <- b:
		case <-p.leaf.ctx.Done():
			return
		}
		// There are never more jobs than pending batches.
		select {
		case p.jobs <- b:
		case <-p.leaf.ctx.Done():
			return
		}
	}
}

// fill reads the series of one batch.
func (p *parallel) fill(b *batch, size int) (err error) {
	defer func() { recovered(recover(), &err) }()
	l := p.leaf
	b.series = make([]Series, 0, size)
	for len(b.series) < size {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if !l.stream.Next() {
			b.last = true
			return l.ended()
		}
		p.series++
		b.series = append(b.series, l.stream.At())
	}
	return nil
}

// work evaluates batches until there are no more. The worker with the highest number
// ends as soon as other queries need its core; the first one always stays.
func (p *parallel) work(number int) {
	w := p.leaf.newWorker()
	defer w.flush()
	for b := range p.jobs {
		if b.err == nil {
			b.err = p.eval(w, b)
		}
		close(b.done)
		if number > 0 && number >= p.leaf.sc.workers() {
			return
		}
	}
}

func (p *parallel) eval(w leafWorker, b *batch) (err error) {
	defer func() { recovered(recover(), &err) }()
	b.rows = make([]*row, 0, len(b.series))
	for _, s := range b.series {
		if err := p.leaf.sc.pace(p.leaf.ctx); err != nil {
			return err
		}
		r, err := p.leaf.eval(p.leaf.ctx, w, s)
		if err != nil {
			return err
		}
		if r != nil {
			b.rows = append(b.rows, r)
		}
	}
	return nil
}

// next returns the next row that has values, or nil at the end.
func (p *parallel) next(ctx context.Context) (*row, error) {
	for {
		if p.cur != nil && len(p.cur.rows) > 0 {
			r := p.cur.rows[0]
			p.cur.rows = p.cur.rows[1:]
			return r, nil
		}
		if p.cur != nil && p.cur.last {
			return nil, nil
		}
		b, ok := <-p.pending
		if !ok {
			return nil, context.Cause(p.leaf.ctx)
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if b.err != nil {
			return nil, b.err
		}
		p.cur = b
	}
}

// wait waits for the goroutines after the context of the leaf has ended, and
// returns how many series were read.
func (p *parallel) wait() int64 {
	p.wg.Wait()
	return p.series
}
