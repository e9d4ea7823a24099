package bucketadmin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// The issues that blocks are checked for, with the names of Thanos.
const (
	// IssueIndex is damage of one block: in its index, chunks, sizes or statistics.
	IssueIndex = "index_known_issues"
	// IssueOverlap is a time that blocks of equal labels and resolution share.
	IssueOverlap = "overlapped_blocks"
	// IssueDuplicate is two blocks of one compaction.
	IssueDuplicate = "duplicated_compaction"
)

// Finding is one fault of one block.
type Finding struct {
	Block string `json:"block" yaml:"block"`
	Issue string `json:"issue" yaml:"issue"`
	// Kind is a fixed word, Details a sentence.
	Kind    string `json:"kind" yaml:"kind"`
	Details string `json:"details" yaml:"details"`
	// Damage says that bytes of the block are missing or wrong, so that a compaction
	// of the block would fail or lose samples.
	Damage bool `json:"damage" yaml:"damage"`
	// Of is the other block of a finding that the block is its second copy.
	Of string `json:"of,omitempty" yaml:"of,omitempty"`
}

// Kinds of findings. A finding of damage can also have the reason of a
// block.CorruptError as its kind.
const (
	kindOverlap         = "overlap"
	kindDuplicate       = "same_compaction"
	kindOutOfOrderChunk = "chunk_out_of_order"
	kindDuplicateChunk  = "duplicate_chunk"
	kindOutsideChunk    = "chunk_outside_of_block"
	kindBoundaryChunk   = "chunk_at_end_of_block"
	kindStats           = "stats_mismatch"
	kindFileMissing     = "file_missing"
)

func damage(id ulid.ULID, kind, format string, args ...any) Finding {
	return Finding{Block: id.String(), Issue: IssueIndex, Kind: kind, Details: fmt.Sprintf(format, args...), Damage: true}
}

// CheckUnusable reports the blocks whose meta.json cannot be used, in order of ULID.
func CheckUnusable(v *blocklist.View) []Finding {
	var out []Finding
	for _, id := range slices.SortedFunc(maps.Keys(v.Unusable), ulid.ULID.Compare) {
		out = append(out, damage(id, v.Unusable[id].Reason.String(), "meta.json cannot be used"))
	}
	return out
}

// CheckSizes compares the files that meta.json names with the listed sizes. Unknown
// sizes, which are negative, are not compared.
func CheckSizes(m *block.Meta, sizes map[string]int64) []Finding {
	var out []Finding
	named := map[string]bool{}
	for _, f := range m.Thanos.Files {
		if f.RelPath == block.MetaFile || named[f.RelPath] {
			continue
		}
		named[f.RelPath] = true
		size, ok := sizes[f.RelPath]
		switch {
		case !ok:
			out = append(out, damage(m.ULID, kindFileMissing, "%s is not in the bucket", f.RelPath))
		case size >= 0 && f.SizeBytes > 0 && size != f.SizeBytes:
			out = append(out, damage(m.ULID, reason.BlockSizeMismatch.String(), "%s has %d bytes, meta.json says %d", f.RelPath, size, f.SizeBytes))
		}
	}
	if _, ok := sizes[block.IndexFile]; !ok && !named[block.IndexFile] {
		out = append(out, damage(m.ULID, kindFileMissing, "%s is not in the bucket", block.IndexFile))
	}
	segments := 0
	for rel := range sizes {
		if isSegment(rel) {
			segments++
		}
	}
	for rel := range named {
		if isSegment(rel) {
			return out // the missing ones are listed
		}
	}
	if want := max(len(m.Thanos.SegmentFiles), int(min(m.Stats.NumChunks, 1))); segments < want {
		out = append(out, damage(m.ULID, kindFileMissing, "%d of at least %d chunk segments are in the bucket", segments, want))
	}
	return out
}

// isSegment says whether rel is the name of a chunk segment.
func isSegment(rel string) bool {
	name, ok := strings.CutPrefix(rel, block.ChunksDir+"/")
	return ok && name != "" && strings.Trim(name, "0123456789") == ""
}

// groups returns the blocks that are not marked for deletion, by labels and resolution.
// Those of a group are in order of MinTime and ULID, the groups in order of their
// labels.
func groups(v *blocklist.View) [][]*block.Meta {
	byKey := map[string][]*block.Meta{}
	for id, m := range v.Metas {
		if v.Deletion[id] == nil {
			key := fmt.Sprint(m.ExternalLabels(), m.Resolution())
			byKey[key] = append(byKey[key], m)
		}
	}
	var out [][]*block.Meta
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		slices.SortFunc(byKey[key], oldestFirst)
		out = append(out, byKey[key])
	}
	return out
}

func oldestFirst(a, b *block.Meta) int {
	return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), a.ULID.Compare(b.ULID))
}

// CheckOverlaps reports each block that begins before the end of an earlier one of equal
// labels and resolution.
func CheckOverlaps(v *blocklist.View) []Finding {
	var out []Finding
	for _, g := range groups(v) {
		last := g[0] // the block that ends last
		for _, m := range g[1:] {
			if m.MinTime < last.MaxTime {
				out = append(out, Finding{
					Block: m.ULID.String(), Issue: IssueOverlap, Kind: kindOverlap,
					Details: fmt.Sprintf("overlaps block %s from %s to %s", last.ULID, stamp(m.MinTime), stamp(min(m.MaxTime, last.MaxTime))),
				})
			}
			if m.MaxTime > last.MaxTime {
				last = m
			}
		}
	}
	return out
}

// CheckDuplicates reports blocks of equal labels, resolution, times, level, sources and
// statistics: two compactors made both of the same blocks.
func CheckDuplicates(v *blocklist.View) []Finding {
	var out []Finding
	for _, g := range groups(v) {
		first := map[string]*block.Meta{}
		for _, m := range g {
			if len(m.Compaction.Sources) == 0 {
				continue
			}
			sources := slices.SortedFunc(slices.Values(m.Compaction.Sources), ulid.ULID.Compare)
			key := fmt.Sprint(m.MinTime, m.MaxTime, m.Compaction.Level, m.Stats, sources)
			if f := first[key]; f != nil {
				out = append(out, Finding{
					Block: m.ULID.String(), Issue: IssueDuplicate, Kind: kindDuplicate, Of: f.ULID.String(),
					Details: fmt.Sprintf("has the times, level, sources and statistics of block %s", f.ULID),
				})
				continue
			}
			first[key] = m
		}
	}
	return out
}

// checkReport reports the flaws of a block whose bytes are sound.
func checkReport(r *block.Report) []Finding {
	var out []Finding
	m := r.Meta
	for _, c := range []struct {
		kind string
		n    int
		text string
	}{
		{kindOutOfOrderChunk, r.OutOfOrderChunks, "begin before the end of the chunk before them"},
		{kindDuplicateChunk, r.DuplicateChunks, "have the times of the chunk before them"},
		{kindOutsideChunk, r.OutsideChunks, "are outside the times of the block"},
		{kindBoundaryChunk, r.BoundaryChunks, "begin at the end of the block"},
	} {
		if c.n > 0 {
			out = append(out, damage(m.ULID, c.kind, "%d of %d chunks %s; one is of %s", c.n, r.Chunks, c.text, r.Example))
		}
	}
	// Blocks of old versions have no statistics.
	if n := m.Stats.NumSeries; n > 0 && n != uint64(r.Series) {
		out = append(out, damage(m.ULID, kindStats, "the index has %d series, meta.json says %d", r.Series, n))
	}
	if n := m.Stats.NumChunks; n > 0 && n != uint64(r.Chunks) {
		out = append(out, damage(m.ULID, kindStats, "the index has %d chunks, meta.json says %d", r.Chunks, n))
	}
	return out
}
