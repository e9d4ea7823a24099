package flags

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// LabelSet collects a repeated flag of the form name="value".
type LabelSet struct {
	pairs []labels.Label
}

// NewLabelSet returns a set of the labels.
func NewLabelSet(pairs ...labels.Label) LabelSet { return LabelSet{pairs: pairs} }

// Set parses one pair and adds it.
func (l *LabelSet) Set(s string) error {
	name, quoted, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("label %q is not of the form name=\"value\"", s)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return fmt.Errorf("label %q has an invalid name", s)
	}
	value, err := strconv.Unquote(quoted)
	if err != nil {
		return fmt.Errorf("value of label %q is not a quoted string (write %s=%q): %w", s, name, quoted, err)
	}
	for _, p := range l.pairs {
		if p.Name == name {
			return fmt.Errorf("label %q is given twice", name)
		}
	}
	l.pairs = append(l.pairs, labels.Label{Name: name, Value: value})
	return nil
}

func (l *LabelSet) String() string { return l.Labels().String() }

// IsCumulative lets kingpin accept the flag repeatedly.
func (l *LabelSet) IsCumulative() bool { return true }

// Labels returns the collected pairs, sorted by name.
func (l *LabelSet) Labels() labels.Labels { return labels.New(l.pairs...) }

// List collects a repeated flag whose values may hold several, separated by
// commas.
type List struct {
	values []string
}

// NewList returns a list of the values.
func NewList(values ...string) List { return List{values: values} }

// Set adds the parts of s.
func (l *List) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			l.values = append(l.values, part)
		}
	}
	return nil
}

func (l *List) String() string { return strings.Join(l.values, ",") }

// IsCumulative lets kingpin accept the flag repeatedly.
func (l *List) IsCumulative() bool { return true }

// Values returns the collected values in the order given.
func (l *List) Values() []string { return l.values }
