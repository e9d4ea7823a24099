package block

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// MaxMetaSize is the largest size of a meta.json in bytes. The longest lists
// in it are sources and files; a block of a year of two-hour blocks has less
// than a megabyte.
const MaxMetaSize = 16 << 20

// SmallMetaSize is a size in bytes that few meta.json exceed. Larger ones are read one
// at a time.
const SmallMetaSize = 1 << 20

// maxMetaCommas bounds the members and elements of a meta.json, which take more
// memory than their text.
const maxMetaCommas = 1 << 20

// maxExternalLabels and maxExternalBytes bound the external labels of a block. A store
// announces those of all its blocks in one message.
const (
	maxExternalLabels = 1000
	maxExternalBytes  = 64 << 10
)

// metaVersion is the only version of meta.json that exists.
const metaVersion = 1

type (
	metaFields struct {
		tsdb.BlockMeta
		Thanos Thanos `json:"thanos"`
	}
	thanosFields Thanos
)

// ParseMeta decodes a meta.json and checks its versions. Errors are
// *CorruptError.
func ParseMeta(data []byte) (*Meta, error) {
	if n := bytes.Count(data, []byte(",")); n > maxMetaCommas {
		return nil, corrupt(reason.BlockMetaMalformed, "meta.json has more than %d elements", maxMetaCommas)
	}
	m := &Meta{}
	if err := m.UnmarshalJSON(data); err != nil {
		return nil, corrupt(reason.BlockMetaMalformed, "decode meta.json: %w", err)
	}
	if m.Version != metaVersion {
		return nil, corrupt(reason.BlockMetaVersion, "meta.json has version %d, known is %d", m.Version, metaVersion)
	}
	if v := m.Thanos.Version; v != 0 && v != 1 {
		return nil, corrupt(reason.BlockMetaVersion, "thanos section of meta.json has version %d, known is 1", v)
	}
	if m.MinTime > m.MaxTime {
		return nil, corrupt(reason.BlockMetaMalformed, "meta.json has minTime %d after maxTime %d", m.MinTime, m.MaxTime)
	}
	if m.Thanos.Downsample.Resolution < 0 {
		return nil, corrupt(reason.BlockMetaMalformed, "meta.json has resolution %d", m.Thanos.Downsample.Resolution)
	}
	if err := checkExternal(m.Thanos.Labels); err != nil {
		return nil, err
	}
	return m, nil
}

// checkExternal refuses external labels that would make the announcement of a whole store
// unusable.
func checkExternal(ls map[string]string) error {
	size := 0
	for name, value := range ls {
		size += len(name) + len(value)
	}
	if len(ls) > maxExternalLabels || size > maxExternalBytes {
		return corrupt(reason.BlockMetaMalformed, "meta.json has %d external labels of %d bytes, at most %d of %d bytes are accepted", len(ls), size, maxExternalLabels, maxExternalBytes)
	}
	if value, ok := ls[""]; ok && value != "" {
		return corrupt(reason.BlockMetaMalformed, "meta.json has an external label without a name")
	}
	return nil
}

// Encode returns meta.json as it is written: indented by tabs, with a newline
// at the end.
func (m *Meta) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("encode meta.json of block %s: %w", m.ULID, err)
	}
	return append(b, '\n'), nil
}

// Clone returns a copy that shares nothing that callers may change.
func (m *Meta) Clone() *Meta {
	c := *m
	c.Compaction.Sources = slices.Clone(m.Compaction.Sources)
	c.Compaction.Parents = slices.Clone(m.Compaction.Parents)
	c.Compaction.Hints = slices.Clone(m.Compaction.Hints)
	c.Thanos.Labels = maps.Clone(m.Thanos.Labels)
	c.Thanos.SegmentFiles = slices.Clone(m.Thanos.SegmentFiles)
	c.Thanos.Files = slices.Clone(m.Thanos.Files)
	return &c
}

// MarshalJSON adds the unknown keys of the top level.
func (m Meta) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(metaFields{BlockMeta: m.BlockMeta, Thanos: m.Thanos})
	if err != nil {
		return nil, err
	}
	return appendUnknown(b, m.unknown), nil
}

// UnmarshalJSON keeps the unknown keys of the top level.
func (m *Meta) UnmarshalJSON(b []byte) error {
	var f metaFields
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*m = Meta{BlockMeta: f.BlockMeta, Thanos: f.Thanos, unknown: unknownMembers(b, isMetaKey)}
	return nil
}

// MarshalJSON adds the unknown keys of the section.
func (t Thanos) MarshalJSON() ([]byte, error) {
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	b, err := json.Marshal(thanosFields(t))
	if err != nil {
		return nil, err
	}
	return appendUnknown(b, t.unknown), nil
}

// UnmarshalJSON keeps the unknown keys of the section.
func (t *Thanos) UnmarshalJSON(b []byte) error {
	var f thanosFields
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	f.unknown = unknownMembers(b, isThanosKey)
	*t = Thanos(f)
	return nil
}

// isMetaKey says whether a field of metaFields takes the member. The decoder ignores
// case.
func isMetaKey(key string) bool {
	switch key {
	case "ulid", "minTime", "maxTime", "stats", "compaction", "version", "thanos":
		return true
	}
	return fieldNamed(reflect.TypeFor[tsdb.BlockMeta](), key) || strings.EqualFold(key, "thanos")
}

// isThanosKey says whether a field of Thanos takes the member.
func isThanosKey(key string) bool {
	switch key {
	case "labels", "downsample", "source", "segment_files", "files", "index_stats", "upload_time", "version":
		return true
	}
	return fieldNamed(reflect.TypeFor[Thanos](), key)
}

func fieldNamed(t reflect.Type, key string) bool {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}

// appendUnknown adds members to the end of the non-empty object b.
func appendUnknown(b []byte, unknown map[string]json.RawMessage) []byte {
	for _, key := range slices.Sorted(maps.Keys(unknown)) {
		name, err := json.Marshal(key)
		if err != nil {
			continue // a string always encodes
		}
		b = append(b[:len(b)-1], ',')
		b = append(b, name...)
		b = append(b, ':')
		b = append(b, unknown[key]...)
		b = append(b, '}')
	}
	return b
}
