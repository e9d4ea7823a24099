package remotewrite

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/reason"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// Bounds of relabelling: some rules take time in proportion to the square of the
// labels, others join many values to one, and label sets cannot hold labels of any
// size.
const (
	maxRewrittenLabels = 10_000
	maxRewrittenLabel  = 1 << 20
)

// Rewrite makes new batches with changed labels. f gets each series' labels,
// which it must not keep, and returns the new ones and the group that the
// series belongs to; keep false drops the series. The result has one batch for
// each group; the caller closes them, and keeps b. A series that cannot be
// rewritten, or that f fails for, is left out and counted in b.Rejected.
//
// Labels are sorted first, and those with an empty value left out, as relabelling
// expects them; they are not checked.
func Rewrite(b *Batch, f func(labels.Labels) (ls labels.Labels, group string, keep bool, err error)) (map[string]*Batch, error) {
	var (
		groups = map[string]*Buffer{}
		w      = rewriter{scratch: labels.NewScratchBuilder(16)}
		raw    []byte
	)
	for i := range b.Len() {
		s := b.Series(i)
		ls, err := w.read(s.Labels)
		var (
			group string
			keep  bool
		)
		if err == nil {
			ls, group, keep, err = f(ls)
		}
		if err != nil {
			b.reject(i, err)
			continue
		}
		if !keep {
			continue
		}
		buf := groups[group]
		if buf == nil {
			buf = NewBuffer(b.Size())
			groups[group] = buf
		}
		raw = AppendLabels(raw[:0], ls)
		buf.B = append(buf.B, tagSeries)
		buf.B = appendUvarint(buf.B, uint64(len(raw)+len(s.Rest)))
		buf.B = append(buf.B, raw...)
		buf.B = append(buf.B, s.Rest...)
	}
	return scanAll(groups)
}

// reject counts a series as rejected, and removes it from the counts.
func (b *Batch) reject(i int, err error) {
	items := b.Series(i).Items()
	items.Series = 1
	b.counts = b.counts.Minus(items)
	why := reason.MalformedSeries
	var invalid *InvalidSeriesError
	if errors.As(err, &invalid) {
		why = invalid.Reason
	}
	b.rejected.Add(Invalid, why, 1, err.Error)
}

// rewriter reads the labels of one series after the other.
type rewriter struct{ scratch labels.ScratchBuilder }

// read returns the labels of a series, sorted. They are valid until the next call.
func (w *rewriter) read(rawLabels []byte) (labels.Labels, error) {
	w.scratch.Reset()
	r, n := labelReader{B: rawLabels}, 0
	for {
		name, value, ok := r.Next()
		if !ok {
			break
		}
		if len(value) == 0 {
			continue
		}
		if n++; n > maxRewrittenLabels {
			return labels.EmptyLabels(), invalidSeries(rawLabels, reason.TooManyLabels, fmt.Sprintf("more than %d labels cannot be relabelled", maxRewrittenLabels))
		}
		if len(name) > maxRewrittenLabel || len(value) > maxRewrittenLabel {
			return labels.EmptyLabels(), invalidSeries(rawLabels, reason.LabelTooLong, fmt.Sprintf("a label of more than %d bytes cannot be relabelled", maxRewrittenLabel))
		}
		w.scratch.Add(zerocopy.String(name), zerocopy.String(value))
	}
	if r.err != nil {
		return labels.EmptyLabels(), r.err
	}
	w.scratch.Sort()
	ls := w.scratch.Labels()
	if name, twice := ls.HasDuplicateLabelNames(); twice {
		return labels.EmptyLabels(), duplicateLabel(rawLabels, name)
	}
	return ls, nil
}

func scanAll(groups map[string]*Buffer) (map[string]*Batch, error) {
	out := make(map[string]*Batch, len(groups))
	var failed error
	for group, buf := range groups {
		b, err := ScanV1(buf, buf.B)
		if err != nil {
			failed = err
			continue
		}
		out[group] = b
	}
	if failed != nil {
		for _, b := range out {
			b.Close()
		}
		return nil, failed
	}
	return out, nil
}
