package query

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// maxLoans bounds the batches whose memory waits for an older batch that is in use. The
// evaluator releases series within few batches; beyond the bound, memory is left to the
// collector.
const maxLoans = 32

// loans are the memory that a stream has borrowed from its set: that of each batch goes
// back once the batch and all before it are not in use any more, because chunks of
// neighbouring batches lie in the same memory. The zero value has a set that lends
// nothing. The goroutine of the stream takes loans, any goroutine ends them; the lock of
// the stream guards all but set.
type loans struct {
	set storeapi.LendingSet
	// first is the number of the oldest batch that is in use, which open begins with.
	first int
	open  []loan
}

// loan is the memory that became spent while a batch was filled.
type loan struct {
	memory storeapi.Memory
	// over says that the batch is not in use any more.
	over bool
}

// begin asks the set to lend, if it can.
func (l *loans) begin(set storeapi.SeriesSet) {
	if lending, ok := set.(storeapi.LendingSet); ok {
		lending.Lend()
		l.set = lending
	}
}

// spent is the memory to which only series that were read before the current one refer.
func (l *loans) spent() storeapi.Memory {
	if l.set == nil {
		return nil
	}
	return l.set.Spent()
}

// add records the memory of a full batch, and returns the number of the batch.
func (l *loans) add(m storeapi.Memory) (number int) {
	number = l.first + len(l.open)
	if m != nil && len(l.open) >= maxLoans {
		m.Release()
		m = nil
	}
	l.open = append(l.open, loan{memory: m})
	return number
}

// end records that a batch is not in use any more, and returns the memory to which no
// batch refers now.
func (l *loans) end(number int) (free []storeapi.Memory) {
	l.open[number-l.first].over = true
	n := 0
	for ; n < len(l.open) && l.open[n].over; n++ {
		if m := l.open[n].memory; m != nil {
			free = append(free, m)
		}
	}
	l.first += n
	kept := copy(l.open, l.open[n:])
	clear(l.open[kept:])
	l.open = l.open[:kept]
	return free
}

// close gives back what is left, to which series may still refer.
func (l *loans) close() {
	for _, o := range l.open {
		if o.memory != nil {
			o.memory.Release()
		}
	}
	l.open = nil
}
