package storeapi

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// Shard selects the series whose hash over some of their labels falls to one
// of Total shards (docs: StoreAPI vertical sharding).
type Shard struct {
	Index, Total int64
	// Labels are hashed when By is true; otherwise all labels but these are.
	Labels []string
	By     bool
}

// Validate returns an error unless Index is one of Total shards. A nil shard,
// which is all series, is valid.
func (s *Shard) Validate() error {
	if s != nil && (s.Total < 1 || s.Index < 0 || s.Index >= s.Total) {
		return fmt.Errorf("shard_index %d is not one of the %d of total_shards", s.Index, s.Total)
	}
	return nil
}

// Matches reports whether the complete label set (external labels added, replica
// labels removed) belongs to the shard. buf is scratch space that is returned
// for the next call. A nil shard, or Total below 1, matches everything.
func (s *Shard) Matches(lset labels.Labels, buf []byte) (bool, []byte) {
	if s == nil || s.Total < 1 {
		return true, buf
	}
	buf = buf[:0]
	lset.Range(func(l labels.Label) {
		if slices.Contains(s.Labels, l.Name) != s.By {
			return
		}
		buf = append(buf, l.Name...)
		buf = append(buf, 0xff)
		buf = append(buf, l.Value...)
		buf = append(buf, 0xff)
	})
	return xxhash.Sum64(buf)%uint64(s.Total) == uint64(s.Index), buf
}
