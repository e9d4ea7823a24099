package blockcolumns

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// leading returns the place of a label among those that say where series come from. They come
// first, because most selectors of few series have some of them.
func leading(v *values, byName map[string]*values) int {
	switch v.name {
	case "job":
		return 0
	case "namespace":
		return 1
	case "instance":
		return 3
	case "pod":
		// Either each instance is a pod, or an instance reports many pods, such as the kubelet
		// of a node: then selectors are for pods. A pod that was replaced makes two of one.
		if i, ok := byName["instance"]; ok && len(v.seen) > 2*len(i.seen) {
			return 2
		}
		return 4
	}
	return 5
}

// values are the values of a label of a metric.
type values struct {
	name    string
	seen    map[string]struct{}
	present int // series that have the label
}

func (v *values) numeric() bool {
	for s := range v.seen {
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return false
		}
	}
	return true
}

// arrange divides the names of the labels of series into those with one value, which is
// the same for all, and the others, in the order by which the series are sorted: where they come
// from; then from few to many values, because a label of few values is rather part of a
// selector; those whose values are numbers, such as cpu and le, last, because queries
// rather add them up.
func arrange(series []labels.Labels) (constant []labels.Label, order []string) {
	byName := map[string]*values{}
	for _, lset := range series {
		lset.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			v, ok := byName[l.Name]
			if !ok {
				v = &values{name: l.Name, seen: map[string]struct{}{}}
				byName[l.Name] = v
			}
			v.seen[l.Value] = struct{}{}
			v.present++
		})
	}
	var others []*values
	numeric := map[string]bool{}
	for _, v := range byName {
		if len(v.seen) == 1 && v.present == len(series) {
			for value := range v.seen {
				constant = append(constant, labels.Label{Name: v.name, Value: value})
			}
			continue
		}
		others, numeric[v.name] = append(others, v), v.numeric()
	}
	slices.SortFunc(constant, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	last := func(v *values) int {
		if numeric[v.name] {
			return 1
		}
		return 0
	}
	slices.SortFunc(others, func(a, b *values) int {
		return cmp.Or(cmp.Compare(leading(a, byName), leading(b, byName)), cmp.Compare(last(a), last(b)),
			cmp.Compare(len(a.seen), len(b.seen)), strings.Compare(a.name, b.name))
	})
	for _, v := range others {
		order = append(order, v.name)
	}
	return constant, order
}

// end stands behind each value of a key.
const end = "\x00"

// fits says whether an object can have a series with the labels. A value with end in it, or an
// empty one, which a block can have though Prometheus writes none, would make its key that of
// another series.
func fits(lset labels.Labels) bool {
	size, ok := 0, true
	lset.Range(func(l labels.Label) {
		size += len(l.Name) + len(l.Value)
		ok = ok && l.Value != "" && !strings.Contains(l.Value, end)
	})
	return ok && size <= maxLabelBytes
}

// appendKey appends the key of a series: its values in the order, each with end behind it. A
// label that it has not has an empty value. So keys are in the order of their values, one
// after the other, and none is the beginning of another one.
func appendKey(b []byte, lset labels.Labels, order []string) []byte {
	for _, name := range order {
		b = append(append(b, lset.Get(name)...), end...)
	}
	return b
}

// separator returns the shortest beginning of b that is greater than a, which is less than b.
func separator(a, b string) string {
	n := 0
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return b[:n+1]
}

// maxPrefixes bounds the beginnings of keys that Candidates looks for.
const maxPrefixes = 64

// Candidates returns the segments that may have series that the matchers select, in order:
// all that have some, and others. Of a segment whose series agree in the first labels of the
// order, it compares these and looks at the next one.
func (m *Metric) Candidates(ms []*labels.Matcher) (segments []Segment) {
	c := candidates{values: make([][]string, len(m.Order)), prefixes: make([][]string, len(m.Order))}
	for i, name := range m.Order {
		c.values[i] = valuesOf(ms, name)
	}
	for i, s := range m.Segments {
		until, last := "", i+1 == len(m.Segments)
		if !last {
			until = m.Segments[i+1].from
		}
		if c.has(s.from, until, last) {
			segments = append(segments, s)
		}
	}
	return segments
}

// candidates are the values to which matchers restrict the labels of an order: nil for any,
// and the beginnings of keys that they make from each label on, once they are wanted.
type candidates struct {
	values, prefixes [][]string
}

// has says whether a key that the matchers select may be in a segment: from its first key, and
// before until if it is not the last one.
func (c *candidates) has(from, until string, last bool) bool {
	for i, values := range c.values {
		first, restFirst, whole := strings.Cut(from, end)
		next, restNext, wholeNext := strings.Cut(until, end)
		if whole && wholeNext && !last && first == next { // all keys have that value
			if values != nil && !slices.Contains(values, first) {
				return false
			}
			from, until = restFirst, restNext
			continue
		}
		if values == nil {
			return true
		}
		for _, p := range c.from(i) {
			// The keys with the prefix p are those from p to the last one that begins with it.
			if (from <= p || strings.HasPrefix(from, p)) && (last || until > p) {
				return true
			}
		}
		return false
	}
	return true
}

// from returns the beginnings of keys from the i-th label on, which is restricted.
func (c *candidates) from(i int) []string {
	if c.prefixes[i] != nil {
		return c.prefixes[i]
	}
	prefixes := []string{""}
	for _, values := range c.values[i:] {
		if values == nil || len(values)*len(prefixes) > maxPrefixes {
			break
		}
		var longer []string
		for _, p := range prefixes {
			for _, v := range values {
				longer = append(longer, p+v+end)
			}
		}
		prefixes = longer
	}
	c.prefixes[i] = prefixes
	return prefixes
}

// valuesOf returns the values to which matchers restrict a label, nil for any.
func valuesOf(ms []*labels.Matcher, name string) (values []string) {
	for _, m := range ms {
		switch {
		case m.Name != name:
		case m.Type == labels.MatchEqual:
			return []string{m.Value}
		case m.Type == labels.MatchRegexp && len(m.SetMatches()) > 0:
			values = m.SetMatches()
		}
	}
	return values
}
