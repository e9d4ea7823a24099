package receive

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// maxAttributes bounds the attributes of a resource, a scope or a data point of
// OTLP. Translating takes time in proportion to their square.
const maxAttributes = 1024

// maxAttributeSize bounds what becomes one label, in bytes; label sets cannot hold
// any size of it.
const maxAttributeSize = 1 << 20

// checkAttributes refuses what would take long to translate.
func checkAttributes(md pmetric.Metrics) error {
	for _, rm := range md.ResourceMetrics().All() {
		if err := checkMap("resource", rm.Resource().Attributes()); err != nil {
			return err
		}
		for _, sm := range rm.ScopeMetrics().All() {
			if err := checkMap("scope", sm.Scope().Attributes()); err != nil {
				return err
			}
			for _, m := range sm.Metrics().All() {
				if err := checkPoints(m); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func checkPoints(m pmetric.Metric) (err error) {
	if n := len(m.Name()) + len(m.Unit()); n > maxAttributeSize {
		return remotewrite.Errorf(remotewrite.Invalid, "the name of the metric %.100s has %d bytes, more than %d", m.Name(), n, maxAttributeSize)
	}
	each := func(attributes pcommon.Map) bool {
		err = checkMap("data point of the metric "+m.Name(), attributes)
		return err == nil
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, p := range m.Gauge().DataPoints().All() {
			if !each(p.Attributes()) {
				break
			}
		}
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			if !each(p.Attributes()) {
				break
			}
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			if !each(p.Attributes()) {
				break
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			if !each(p.Attributes()) {
				break
			}
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			if !each(p.Attributes()) {
				break
			}
		}
	}
	return err
}

func checkMap(of string, attributes pcommon.Map) error {
	if n := attributes.Len(); n > maxAttributes {
		return remotewrite.Errorf(remotewrite.Invalid, "a %.100s has %d attributes, more than %d", of, n, maxAttributes)
	}
	for name, v := range attributes.All() {
		if n := len(name) + textSize(v); n > maxAttributeSize {
			return remotewrite.Errorf(remotewrite.Invalid, "the attribute %.100s of a %.100s has about %d bytes, more than %d", name, of, n, maxAttributeSize)
		}
	}
	return nil
}

// textSize is about the size of the value as a label. Escapes can make it six
// times that.
func textSize(v pcommon.Value) (n int) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return len(v.Str())
	case pcommon.ValueTypeBytes:
		return v.Bytes().Len()
	case pcommon.ValueTypeSlice:
		for _, x := range v.Slice().All() {
			n += 4 + textSize(x)
		}
		return n
	case pcommon.ValueTypeMap:
		for name, x := range v.Map().All() {
			n += 8 + len(name) + textSize(x)
		}
		return n
	}
	return 24
}
