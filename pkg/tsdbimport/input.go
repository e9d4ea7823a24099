package tsdbimport

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// Sample is one sample: H or FH, or the float V when both are nil.
type Sample struct {
	T  int64 // Unix milliseconds
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

// equal compares the sample of the input with that of a block; floats by their bits, for a
// stale marker is no other NaN. Behind a histogram, a stale marker is a histogram, too.
func (s *Sample) equal(o *Sample) bool {
	switch {
	case s.H == nil && s.FH == nil && value.IsStaleNaN(s.V):
		return o.H != nil && value.IsStaleNaN(o.H.Sum) || o.FH != nil && value.IsStaleNaN(o.FH.Sum) || value.IsStaleNaN(o.V)
	case s.H != nil:
		return o.H != nil && s.H.Equals(o.H)
	case s.FH != nil:
		return o.FH != nil && s.FH.Equals(o.FH)
	}
	return o.H == nil && o.FH == nil && math.Float64bits(s.V) == math.Float64bits(o.V)
}

// Input is what is imported. All calls of Each give the same samples in the same order.
type Input interface {
	// Each calls f with each sample. Labels stay valid; histograms do not after f returns.
	// An error of f ends the call and is returned.
	Each(ctx context.Context, f func(labels.Labels, Sample) error) error
}

// checkSeries refuses labels that no series may have.
func checkSeries(lset labels.Labels) error {
	if lset.IsEmpty() {
		return errors.New("a series has no labels")
	}
	err := lset.Validate(func(l labels.Label) error {
		if !model.UTF8Validation.IsValidLabelName(l.Name) || !model.LabelValue(l.Value).IsValid() {
			return fmt.Errorf("label %q=%q is not valid", l.Name, l.Value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if name, twice := lset.HasDuplicateLabelNames(); twice {
		return fmt.Errorf("label %q of series %s is given twice", name, lset)
	}
	return nil
}
