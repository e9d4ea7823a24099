package markhttp

import (
	"maps"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
)

// Details are the fields of a list of blocks that Thanos does not have. All maps have
// the ULIDs of blocks as keys, also of blocks without a usable meta.json.
type Details struct {
	// Sizes are in bytes, of all objects of a block, or of the files in its meta.json when
	// the listing has no sizes; a block has none when both are unknown.
	Sizes map[string]int64 `json:"sizes"`
	Marks map[string]marks `json:"marks"`
	// Partial has the reason why a block has no usable meta.json.
	Partial map[string]string `json:"partial"`
	// Markable says that blocks can be marked over HTTP.
	Markable bool `json:"markable"`
}

// marks are the marks of one block; those that it does not have are nil.
type marks struct {
	Deletion     *block.DeletionMark     `json:"deletion,omitempty"`
	NoCompact    *block.NoCompactMark    `json:"noCompact,omitempty"`
	NoDownsample *block.NoDownsampleMark `json:"noDownsample,omitempty"`
}

// Describe returns the details of all blocks of a view; v may be nil.
func Describe(v *blocklist.View, markable bool) Details {
	d := Details{Sizes: map[string]int64{}, Marks: map[string]marks{}, Partial: map[string]string{}, Markable: markable}
	if v == nil {
		return d
	}
	for id, objects := range v.Sizes {
		sum, known := int64(0), len(objects) > 0
		for size := range maps.Values(objects) {
			sum, known = sum+size, known && size >= 0
		}
		if known {
			d.Sizes[id.String()] = sum
		}
	}
	for id, m := range v.Metas {
		if _, ok := d.Sizes[id.String()]; ok {
			continue
		}
		// Not every listing has sizes.
		var sum int64
		for _, f := range m.Thanos.Files {
			sum += max(f.SizeBytes, 0)
		}
		if sum > 0 {
			d.Sizes[id.String()] = sum
		}
	}
	for _, bad := range []map[ulid.ULID]blocklist.Partial{v.Partial, v.Unusable} {
		for id, p := range bad {
			d.Partial[id.String()] = p.Reason.String()
		}
	}
	edit(d.Marks, v.Deletion, func(m *marks, mark *block.DeletionMark) { m.Deletion = mark })
	edit(d.Marks, v.NoCompact, func(m *marks, mark *block.NoCompactMark) { m.NoCompact = mark })
	edit(d.Marks, v.NoDownsample, func(m *marks, mark *block.NoDownsampleMark) { m.NoDownsample = mark })
	return d
}

// edit enters the marks of one kind.
func edit[M any](all map[string]marks, kind map[ulid.ULID]M, enter func(*marks, M)) {
	for id, mark := range kind {
		m := all[id.String()]
		enter(&m, mark)
		all[id.String()] = m
	}
}
