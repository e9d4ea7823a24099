package block

import (
	"encoding/json"
	"fmt"

	"github.com/oklog/ulid/v2"
)

// Shard says that a block has a part of the series of one compaction, whose result
// would be too large for one block. The shards of a set have equal times, sources (but
// for the id of each, which is one of its sources) and external labels, and no series in common. All of them together replace their sources.
type Shard struct {
	// Set is equal in all shards of one compaction, and in their downsampled blocks.
	Set ulid.ULID `json:"set"`
	// Index is from 0 to Count-1.
	Index int `json:"index"`
	Count int `json:"count"`
}

// shardKey is the key of the shard in the extensions of a meta.json.
const shardKey = "hindsight_shard"

// Shard returns the shard of the block, the zero value if its meta.json has none.
func (m *Meta) Shard() Shard {
	var s Shard
	if json.Unmarshal(m.extensions()[shardKey], &s) != nil || s.Count < 1 || s.Index < 0 || s.Index >= s.Count {
		return Shard{}
	}
	return s
}

// SetShard writes the shard into the extensions, of which it keeps the other keys; the
// zero value removes it.
func (m *Meta) SetShard(s Shard) {
	if s == (Shard{}) {
		m.setExtension(shardKey, nil)
		return
	}
	m.setExtension(shardKey, fmt.Appendf(nil, `{"set":%q,"index":%d,"count":%d}`, s.Set, s.Index, s.Count))
}
