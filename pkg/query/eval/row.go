package eval

import (
	"context"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// grid is the times at which an expression is evaluated, in milliseconds.
type grid struct {
	start, step int64
	// steps is the number of times, at least 1. The last one is start+(steps-1)*step.
	steps int
}

func (g grid) at(i int) int64 { return g.start + int64(i)*g.step }

// row is one series of the result of an expression over all steps of a grid.
type row struct {
	labels labels.Labels
	// has says at which steps there is a value, n at how many.
	has []bool
	n   int
	// v holds the floats.
	v []float64
	// h is nil when all values are floats. Otherwise the value at step i is a
	// histogram where h[i] is not nil. Histograms are immutable.
	h []*histogram.FloatHistogram
}

// operator evaluates one expression of type instant vector. It belongs to one
// goroutine, and may use others below.
type operator interface {
	// next returns the next series, or nil at the end. Series without any value
	// are left out. Series come in the order in which Prometheus's engine has them
	// in its matrix, where that order is defined. The row belongs to the caller, who
	// gives it back with run.release when it is not needed any more.
	next(ctx context.Context) (*row, error)
	// close ends everything below and waits for it. It is called exactly once, also
	// before the end of the series.
	close() error
}
