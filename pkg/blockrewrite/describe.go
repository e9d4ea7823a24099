package blockrewrite

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Entry is one entry of thanos.rewrites in a meta.json.
type Entry struct {
	// Sources are the blocks that were rewritten.
	Sources   []ulid.ULID       `json:"sources,omitempty"`
	Deletions []DeletionEntry   `json:"deletions_applied,omitempty"`
	Relabels  []*relabel.Config `json:"relabels_applied,omitempty"`
}

// DeletionEntry is one deletion that a rewrite has applied.
type DeletionEntry struct {
	Matchers []*labels.Matcher `json:"matchers,omitempty"`
	// Intervals are inclusive; none is all time.
	Intervals tombstones.Intervals `json:"intervals,omitempty"`
	// RequestID identifies the deletion request, or the rule of retention.
	RequestID string `json:"request_id,omitempty"`
}

// Lineage is how a rewritten block is described.
type Lineage struct {
	// Source of the block: the component that made it.
	Source block.Source
	// NewSources makes the block its own source in compaction.sources, as Thanos's
	// tool does. A block of the same sources as the one that it was made of supersedes
	// it, and the downsampled data of one counts as that of the other.
	NewSources bool
	// Entry is added to thanos.rewrites, with the source block.
	Entry Entry
	// Now is the time of the new ULID.
	Now time.Time
}

// Describe writes the meta.json of a result of Rewrite into dir: a changed copy of that
// of the source. It returns what it wrote.
func Describe(dir string, src *block.Meta, stats tsdb.BlockStats, l Lineage) (*block.Meta, error) {
	id, err := ulid.New(ulid.Timestamp(l.Now), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("name a rewritten block: %w", err)
	}
	m := src.Clone()
	m.ULID, m.Stats = id, stats
	if len(m.Compaction.Sources) == 0 {
		m.Compaction.Sources = []ulid.ULID{src.ULID}
	}
	if l.NewSources {
		m.Compaction.Sources = []ulid.ULID{id}
	}
	m.Compaction.Failed, m.Compaction.Deletable = false, false
	m.Compaction.Parents = []tsdb.BlockDesc{{ULID: src.ULID, MinTime: src.MinTime, MaxTime: src.MaxTime}}
	if src.RewriteCount() > 0 {
		// The blocks that it supersedes may be uploaded again later.
		m.Compaction.Parents = append(m.Compaction.Parents, src.Compaction.Parents...)
	}
	m.Thanos.Source = l.Source
	m.Thanos.SegmentFiles, m.Thanos.Files, m.Thanos.IndexStats = nil, nil, block.IndexStats{}
	l.Entry.Sources = []ulid.ULID{src.ULID}
	if m.Thanos.Rewrites, err = appendEntry(m.Thanos.Rewrites, l.Entry); err != nil {
		return nil, fmt.Errorf("describe the rewrite of block %s: %w", src.ULID, err)
	}
	return m, block.WriteMetaDir(dir, m)
}

// maxEntries bounds thanos.rewrites. Of more, the oldest lose their content: their
// number tells which of two blocks was made of the other.
const maxEntries = 100

// appendEntry adds an entry to a list of JSON, whose other entries stay as they are. A
// list that cannot be read is replaced.
func appendEntry(list json.RawMessage, e Entry) (json.RawMessage, error) {
	var entries []json.RawMessage
	if len(list) > 0 && json.Unmarshal(list, &entries) != nil {
		entries = nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	entries = append(entries, b)
	for i := range max(0, len(entries)-maxEntries) {
		entries[i] = json.RawMessage("{}")
	}
	return json.Marshal(entries)
}
