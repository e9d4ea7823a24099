package thanosmetrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// alias is one metric of Thanos, made of one of this program.
type alias struct {
	name, from string
	// role is a metric that only one role has; the alias exists beside it only. Empty is
	// any role.
	role string
	// only keeps the series whose labels have these values.
	only map[string]string
	// labels renames labels; one that becomes "" is left out, and the values of series
	// that have equal labels then are added up. values renames the values of a label, by
	// its new name.
	labels map[string]string
	values map[string]map[string]string
}

// Gatherer returns what g gathers, with the aliases beside it. The metrics of g stay as
// they are.
func Gatherer(g prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := g.Gather()
		byName := make(map[string]*dto.MetricFamily, len(families))
		for _, f := range families {
			byName[f.GetName()] = f
		}
		for _, a := range aliases() {
			from := byName[a.from]
			if from == nil || byName[a.name] != nil || a.role != "" && byName[a.role] == nil {
				continue
			}
			if f := a.family(from); len(f.Metric) > 0 {
				families = append(families, f)
			}
		}
		slices.SortFunc(families, func(x, y *dto.MetricFamily) int { return cmp.Compare(x.GetName(), y.GetName()) })
		return families, err
	})
}

// family returns the alias of a family. Its metrics share values with those of from.
func (a alias) family(from *dto.MetricFamily) *dto.MetricFamily {
	out := &dto.MetricFamily{Name: pointer(a.name), Help: from.Help, Type: from.Type, Unit: from.Unit}
	seen := map[string]*dto.Metric{}
	for _, m := range from.Metric {
		labels, ok := a.relabel(m.Label)
		if !ok {
			continue
		}
		key := ""
		for _, l := range labels {
			key += l.GetName() + "\xff" + l.GetValue() + "\xff"
		}
		if first := seen[key]; first != nil {
			add(first, m)
			continue
		}
		renamed := &dto.Metric{Label: labels, Histogram: m.Histogram, TimestampMs: m.TimestampMs}
		if m.Counter != nil {
			renamed.Counter = &dto.Counter{Value: pointer(m.Counter.GetValue()), CreatedTimestamp: m.Counter.CreatedTimestamp}
		}
		if m.Gauge != nil {
			renamed.Gauge = &dto.Gauge{Value: pointer(m.Gauge.GetValue())}
		}
		seen[key] = renamed
		out.Metric = append(out.Metric, renamed)
	}
	return out
}

// add adds the value of a counter or a gauge. No alias leaves out labels of histograms.
func add(to, m *dto.Metric) {
	if to.Counter != nil {
		*to.Counter.Value += m.Counter.GetValue()
	}
	if to.Gauge != nil {
		*to.Gauge.Value += m.Gauge.GetValue()
	}
}

// relabel returns the labels of the alias, sorted; false for a series that it has not.
func (a alias) relabel(labels []*dto.LabelPair) ([]*dto.LabelPair, bool) {
	var out []*dto.LabelPair
	matched := 0
	for _, l := range labels {
		name, value := l.GetName(), l.GetValue()
		if want, ok := a.only[name]; ok {
			if want != value {
				return nil, false
			}
			matched++
			continue
		}
		if renamed, ok := a.labels[name]; ok {
			name = renamed
		}
		if name == "" {
			continue
		}
		if values, ok := a.values[name]; ok {
			if value, ok = values[value]; !ok {
				if value, ok = values[""]; !ok {
					return nil, false
				}
			}
		}
		out = append(out, &dto.LabelPair{Name: pointer(name), Value: pointer(value)})
	}
	slices.SortFunc(out, func(x, y *dto.LabelPair) int { return cmp.Compare(x.GetName(), y.GetName()) })
	return out, matched == len(a.only)
}

func pointer[T any](v T) *T { return &v }
