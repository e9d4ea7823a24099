package multitsdb

import (
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of the metadata of a tenant: enough for any real set, and too little for
// a hostile sender to fill the memory.
const (
	maxFamilies   = 50_000
	maxHelpLength = 1024
	maxUnitLength = 128
	maxNameLength = 1024
)

// familyMetadata is the metadata that senders of one tenant sent with their
// metrics. It is in memory only: senders repeat it.
type familyMetadata struct {
	mu sync.RWMutex
	by map[string]described
}

// described is the metadata of a metric. message is the hash of its bytes, if it
// came with a series.
type described struct {
	metadata.Metadata
	message uint64
}

// family stores the metadata of remote write 1.0.
func (f *familyMetadata) family(msg []byte) error {
	m, err := remotewrite.ParseMetadata(msg)
	if err != nil {
		return err
	}
	f.set(m.Family, described{m.Metadata, 0})
	return nil
}

// series stores the metadata that came with a series, whose items are rest, under
// the name of its family. It comes with each of them again and again, mostly the
// same.
func (f *familyMetadata) series(name string, msg, rest []byte) {
	name = familyOf(name, msg, rest)
	hash := xxhash.Sum64(msg)
	f.mu.RLock()
	same := f.by[name].message == hash
	f.mu.RUnlock()
	if same {
		return
	}
	m, err := remotewrite.ParseSeriesMetadata(msg)
	if err == nil && name != "" {
		f.set(name, described{m, hash})
	}
}

// familyOf returns the name of the family of a series. The series of a classic
// histogram or a summary have one more suffix than their family.
func familyOf(series string, msg, rest []byte) string {
	at := strings.LastIndexByte(series, '_')
	if at <= 0 {
		return series
	}
	switch series[at:] {
	case "_bucket", "_count", "_sum", "_gcount", "_gsum":
	default:
		return series
	}
	m, err := remotewrite.ParseSeriesMetadata(msg)
	if err != nil || (remotewrite.Series{Rest: rest}).Items().Histograms > 0 {
		return series // a native histogram is called like its family
	}
	switch {
	case m.Type == model.MetricTypeHistogram, m.Type == model.MetricTypeGaugeHistogram:
		return series[:at]
	case m.Type == model.MetricTypeSummary && series[at:] != "_bucket":
		return series[:at]
	}
	return series
}

func (f *familyMetadata) set(name string, m described) {
	// Senders without metadata of a metric send empty metadata with each series,
	// which must not replace that of others.
	if (m.Type == model.MetricTypeUnknown || m.Type == "") && m.Help == "" && m.Unit == "" {
		return
	}
	if name == "" || len(name) > maxNameLength || !utf8.ValidString(name) {
		return
	}
	m.Help, m.Unit = clipped(m.Help, maxHelpLength), clipped(m.Unit, maxUnitLength)
	f.mu.RLock()
	old, ok := f.by[name]
	full := len(f.by) >= maxFamilies
	f.mu.RUnlock()
	if ok && old == m || !ok && full {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = map[string]described{}
	}
	// The name may be a part of something larger, which must not stay for it.
	f.by[strings.Clone(name)] = m
}

// clipped returns text of at most most bytes that is valid in any protocol, in
// memory of its own when it is shortened.
func clipped(text string, most int) string {
	if len(text) > most {
		text = strings.Clone(text[:most])
	}
	return strings.ToValidUTF8(text, "")
}

// add adds the metadata to out, which grows to at most limit metrics;
// negative means no limit.
func (f *familyMetadata) add(out map[string][]storeapi.Metadata, metric string, limit int) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	one := func(name string, m described) {
		if _, ok := out[name]; !ok && limit >= 0 && len(out) >= limit {
			return
		}
		entry := storeapi.Metadata{Type: string(m.Type), Help: m.Help, Unit: m.Unit}
		for _, e := range out[name] {
			if e == entry {
				return
			}
		}
		out[name] = append(out[name], entry)
	}
	if metric != "" {
		if m, ok := f.by[metric]; ok {
			one(metric, m)
		}
		return
	}
	for name, m := range f.by {
		one(name, m)
	}
}
