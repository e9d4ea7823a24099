package eval

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// ErrUnsupported says that an expression has to be evaluated by Prometheus's
// engine: either the expression is not known here, or the data that it met.
var ErrUnsupported = errors.New("expression needs Prometheus's engine")

// Selector asks for the series of one selector of an expression.
type Selector struct {
	// Matchers are those of the selector, the same pointers.
	Matchers []*labels.Matcher
	// Hints are those that Prometheus's engine gives for this selector. Start and
	// End bound the samples, inclusive, in milliseconds.
	Hints *storage.SelectHints
}

// Storage has the series of selectors. It may be used concurrently.
type Storage interface {
	// Select opens a stream. It returns at once and never returns nil; errors are
	// in the stream. Several streams of one query may be open, and be read one
	// after the other or in turn: a stream that is not read never blocks another.
	Select(ctx context.Context, s Selector) SeriesStream
}

// SeriesStream is a stream of series in ascending order of their labels, without
// duplicates. It belongs to one goroutine. The caller closes it exactly once.
type SeriesStream interface {
	// Next moves to the next series; false is the end or an error.
	Next() bool
	// At returns the current series, which stays valid until it is released or the
	// stream is closed, also after Next.
	At() Series
	// Err is the error that ended the stream, nil at its proper end.
	Err() error
	// Warnings is complete when Next has returned false.
	Warnings() annotations.Annotations
	Close() error
}

// Series is one series, not decoded. One goroutine at a time uses it; different
// series of a stream may be used by different goroutines at once.
type Series interface {
	// Labels are immutable and stay valid for ever.
	Labels() labels.Labels
	// Decode replaces the content of dst by the samples of the series within the
	// bounds of the selector, and uses its memory again. Samples that it returned
	// before stay as they are in other memory only.
	Decode(dst *Samples) error
	// Release says that the series is not needed any more. Its memory may then be
	// used for others.
	Release()
}

// Samples are the samples of a series as columns, in strictly ascending order of
// time. Stale markers are among them.
type Samples struct {
	T []int64
	V []float64
	// H is nil when all samples are floats. Otherwise it is as long as T, and the
	// sample i is a histogram where H[i] is not nil; V[i] has no meaning then. The
	// histograms are immutable and stay valid for ever.
	H []*histogram.FloatHistogram
	// Rising says that all samples are floats, none of them is NaN or less than the one
	// before it. A series may leave it false then.
	Rising bool
}
