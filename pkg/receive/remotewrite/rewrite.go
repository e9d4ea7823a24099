package remotewrite

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

// Bounds of what is relabelled: some rules take time in proportion to the square
// of the labels, others join many values to one, and a label set cannot hold any
// size of them.
const (
	maxRewrittenLabels = 10_000
	maxRewrittenLabel  = 1 << 20
)

// Rewrite makes new batches with changed labels. f gets each series' labels,
// which it must not keep, and returns the new ones and the group that the
// series belongs to; keep false drops the series. The result has one batch for
// each group; the caller closes them, and keeps b.
//
// Labels are sorted first, as relabelling expects them; they are not checked.
func Rewrite(b *Batch, f func(labels.Labels) (ls labels.Labels, group string, keep bool, err error)) (map[string]*Batch, error) {
	var (
		groups  = map[string]*Buffer{}
		scratch = labels.NewScratchBuilder(16)
		raw     []byte
	)
	fail := func(err error) (map[string]*Batch, error) {
		for _, buf := range groups {
			buf.Release()
		}
		return nil, err
	}
	for i := range b.Len() {
		s := b.Series(i)
		scratch.Reset()
		r, n := LabelReader{B: s.Labels}, 0
		for {
			name, value, ok := r.Next()
			if !ok {
				break
			}
			if n++; n > maxRewrittenLabels {
				return fail(invalidSeries(s.Labels, "too-many-labels", fmt.Sprintf("more than %d labels cannot be relabelled", maxRewrittenLabels)))
			}
			if len(name) > maxRewrittenLabel || len(value) > maxRewrittenLabel {
				return fail(invalidSeries(s.Labels, "label-too-long", fmt.Sprintf("a label of more than %d bytes cannot be relabelled", maxRewrittenLabel)))
			}
			scratch.Add(viewString(name), viewString(value))
		}
		if r.err != nil {
			return fail(r.err)
		}
		scratch.Sort()
		ls, group, keep, err := f(scratch.Labels())
		if err != nil {
			return fail(err)
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
