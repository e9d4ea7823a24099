package remotewrite

import (
	"fmt"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

const (
	tagLabelName  = 1<<3 | protoscan.Bytes // Label.name
	tagLabelValue = 2<<3 | protoscan.Bytes // Label.value
)

// labelReader walks over the label fields of a series or an exemplar. The zero
// value with B set is ready to use.
type labelReader struct {
	B   []byte
	i   int
	err error
}

// Next returns the next label; ok is false at the end or on an error.
func (r *labelReader) Next() (name, value []byte, ok bool) {
	b, i := r.B, r.i
	if i >= len(b) || r.err != nil {
		return nil, nil, false
	}
	if b[i] != tagLabel {
		r.err = malformed("label: bad field tag")
		return nil, nil, false
	}
	// The form that every sender writes, with lengths of one byte each.
	if i+4 <= len(b) && b[i+1] < 0x80 && b[i+2] == tagLabelName && b[i+3] < 0x80 {
		end, v := i+2+int(b[i+1]), i+4+int(b[i+3])
		if end <= len(b) && v+1 < end && b[v] == tagLabelValue && b[v+1] < 0x80 && v+2+int(b[v+1]) == end {
			r.i = end
			return b[i+4 : v : v], b[v+2 : end : end], true
		}
	}
	start, end := protoscan.Delimited(b, i+1)
	if end < 0 {
		r.err = malformed("label longer than its series")
		return nil, nil, false
	}
	r.i = end
	// The form that every sender writes: name, then value, nothing else.
	if m := b[:end]; start < end && m[start] == tagLabelName {
		n0, n1 := protoscan.Delimited(m, start+1)
		if n1 >= 0 && n1 < end && m[n1] == tagLabelValue {
			if v0, v1 := protoscan.Delimited(m, n1+1); v1 == end {
				return m[n0:n1:n1], m[v0:v1:v1], true
			}
		}
	}
	return r.slow(b[start:end])
}

// slow reads a label in any order of fields; the last of each counts.
func (r *labelReader) slow(msg []byte) (name, value []byte, ok bool) {
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Bytes:
			name = f.Data
		case 2<<3 | protoscan.Bytes:
			value = f.Data
		}
	}
	if fs.Err() != nil {
		r.err = malformed("label")
		return nil, nil, false
	}
	return name, value, true
}

// hashInput appends the input of the ring hash of a series: each name and each
// value followed by 0xff, in the order of the request.
func hashInput(dst []byte, rawLabels []byte) ([]byte, error) {
	r := labelReader{B: rawLabels}
	for {
		name, value, ok := r.Next()
		if !ok {
			return dst, r.err
		}
		dst = append(dst, name...)
		dst = append(dst, 0xff)
		dst = append(dst, value...)
		dst = append(dst, 0xff)
	}
}

// Hasher computes the ring hash of the series of one tenant. It belongs to one
// goroutine.
type Hasher struct {
	buf    []byte
	prefix int
}

// Reset makes the hasher one for the tenant.
func (h *Hasher) Reset(tenant string) {
	h.buf = append(h.buf[:0], tenant...)
	h.buf = append(h.buf, 0xff)
	h.prefix = len(h.buf)
}

// Hash returns the ring hash of a series.
func (h *Hasher) Hash(rawLabels []byte) (uint64, error) {
	buf, err := hashInput(h.buf[:h.prefix], rawLabels)
	h.buf = buf
	return xxhash.Sum64(buf), err
}

// LabelLimits bound the labels of a series; 0 means no limit.
type LabelLimits struct {
	Names, NameLength, ValueLength int
}

// LabelBuilder makes label sets of new series. It belongs to one goroutine.
type LabelBuilder struct {
	scratch labels.ScratchBuilder
	ready   bool
}

// Build returns the label set of a series as a copy that points into no
// buffer. Labels may come in any order; one with an empty value is left
// out. The others must be unique, valid UTF-8, within the limits, and
// contain the metric's name; otherwise the error is an *InvalidSeriesError.
func (lb *LabelBuilder) Build(rawLabels []byte, limits LabelLimits) (labels.Labels, error) {
	if !lb.ready {
		lb.scratch, lb.ready = labels.NewScratchBuilder(16), true
	}
	lb.scratch.Reset()
	sorted, err := lb.add(rawLabels, limits)
	if err != nil {
		return labels.EmptyLabels(), err
	}
	if sorted {
		return lb.scratch.Labels(), nil
	}
	lb.scratch.Sort()
	ls := lb.scratch.Labels()
	if name, twice := ls.HasDuplicateLabelNames(); twice {
		return labels.EmptyLabels(), duplicateLabel(rawLabels, name)
	}
	return ls, nil
}

func duplicateLabel(rawLabels []byte, name string) error {
	return invalidSeries(rawLabels, reason.DuplicateLabel, fmt.Sprintf("label name %q occurs twice", clip(name)))
}

// add adds the labels in their order and reports whether they were sorted.
func (lb *LabelBuilder) add(rawLabels []byte, limits LabelLimits) (sorted bool, err error) {
	var (
		r        = labelReader{B: rawLabels}
		previous string
		n        int
		named    bool
	)
	sorted = true
	for {
		rawName, rawValue, ok := r.Next()
		if !ok {
			break
		}
		name, value := zerocopy.String(rawName), zerocopy.String(rawValue)
		if value == "" {
			continue
		}
		if n++; limits.Names > 0 && n > limits.Names {
			return false, invalidSeries(rawLabels, reason.TooManyLabels, fmt.Sprintf("more labels than the limit of %d (label_names_limit)", limits.Names))
		}
		if problem, text := checkLabel(name, value, limits); problem != "" {
			return false, invalidSeries(rawLabels, problem, text)
		}
		if n > 1 && name == previous {
			return false, duplicateLabel(rawLabels, name)
		}
		sorted = sorted && name > previous
		named = named || name == model.MetricNameLabel
		previous = name
		lb.scratch.Add(name, value)
	}
	switch {
	case r.err != nil:
		return false, r.err
	case n == 0:
		return false, invalidSeries(rawLabels, reason.NoLabels, "the series has no labels")
	case !named:
		return false, invalidSeries(rawLabels, reason.NoMetricName, "the series has no label __name__")
	}
	return sorted, nil
}

func checkLabel(name, value string, limits LabelLimits) (problem reason.Reason, text string) {
	switch {
	case name == "":
		return reason.EmptyLabelName, "a label name is empty"
	case limits.NameLength > 0 && len(name) > limits.NameLength:
		return reason.LabelNameTooLong, fmt.Sprintf("label name %q has %d bytes, the limit is %d (label_name_length_limit)", clip(name), len(name), limits.NameLength)
	case limits.ValueLength > 0 && len(value) > limits.ValueLength:
		return reason.LabelValueTooLong, fmt.Sprintf("the value of label %q has %d bytes, the limit is %d (label_value_length_limit)", clip(name), len(value), limits.ValueLength)
	case !utf8.ValidString(name):
		return reason.InvalidUTF8, fmt.Sprintf("label name %q is not UTF-8", clip(name))
	case !utf8.ValidString(value):
		return reason.InvalidUTF8, fmt.Sprintf("the value of label %q is not UTF-8", clip(name))
	case len(name) > maxLabelSize || len(value) > maxLabelSize:
		return reason.LabelTooLong, fmt.Sprintf("label %q has more than %d bytes", clip(name), maxLabelSize)
	}
	return "", ""
}

// maxLabelSize is the most that a label set can hold in one name or value.
const maxLabelSize = zerocopy.MaxPart

// clip copies s, shortened for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return string(append([]byte(nil), s...))
	}
	return string(append([]byte(nil), s[:most]...)) + "..."
}

// Text renders the labels of a series for a message, as a copy, at most about
// 500 bytes.
func Text(rawLabels []byte) string {
	const most = 500
	out := []byte{'{'}
	for r := (labelReader{B: rawLabels}); ; {
		name, value, ok := r.Next()
		if !ok {
			break
		}
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		out = fmt.Appendf(out, "%s=%q", clip(zerocopy.String(name)), clip(zerocopy.String(value)))
		if len(out) > most {
			out = append(out, ", ..."...)
			break
		}
	}
	return string(append(out, '}'))
}
