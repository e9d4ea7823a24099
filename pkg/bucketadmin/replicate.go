package bucketadmin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Selection chooses the blocks that are copied.
type Selection struct {
	// IDs are the only blocks that are copied; empty means all.
	IDs []ulid.ULID
	// Resolutions in milliseconds, and levels of compaction.
	Resolutions []int64
	Levels      []int
	Matchers    []*labels.Matcher
	// MinTime and MaxTime are as in blocklist.TimePartition.
	MinTime, MaxTime int64
	// IgnoreMarked leaves out blocks that are marked for deletion in the source.
	IgnoreMarked bool
}

func (s *Selection) takes(v *blocklist.View, m *block.Meta) bool {
	return (len(s.IDs) == 0 || slices.Contains(s.IDs, m.ULID)) &&
		slices.Contains(s.Resolutions, m.Resolution()) && slices.Contains(s.Levels, m.Compaction.Level) &&
		m.MaxTime >= s.MinTime && m.MinTime <= s.MaxTime &&
		!(s.IgnoreMarked && v.Deletion[m.ULID] != nil) && matches(m, s.Matchers)
}

// Copy is a block of the source that is selected.
type Copy struct {
	Meta *block.Meta
	// Done says why there is nothing to copy; empty when there is.
	Done string
}

// Copies returns the selected blocks of the source, oldest first, each with whether the
// target has it. A block that the target merged into another one already, or is about to
// delete, is not copied again: the target's compactor would only delete it once more.
func Copies(s *Selection, source, target *blocklist.View) []Copy {
	var out []Copy
	merged := bySource(target)
	for _, m := range source.Metas {
		if !s.takes(source, m) {
			continue
		}
		c := Copy{Meta: m}
		switch have := target.Metas[m.ULID]; {
		case len(m.Thanos.Labels) == 0:
			c.Done = "it has no external labels"
		case have != nil && reflect.DeepEqual(have, m):
			c.Done = "present"
		case have == nil && target.Deletion[m.ULID] != nil:
			c.Done = "the target is deleting it"
		case have == nil:
			if by := holder(merged, m); by != nil {
				c.Done = "the target has its samples in block " + by.ULID.String()
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Copy) int { return oldestFirst(a.Meta, b.Meta) })
	return out
}

// bySource returns the blocks that are not marked for deletion by each of their sources.
func bySource(v *blocklist.View) map[ulid.ULID][]*block.Meta {
	out := map[ulid.ULID][]*block.Meta{}
	for _, id := range slices.SortedFunc(maps.Keys(v.Metas), ulid.ULID.Compare) {
		if v.Deletion[id] != nil {
			continue
		}
		for _, s := range v.Metas[id].Compaction.Sources {
			out[s] = append(out[s], v.Metas[id])
		}
	}
	return out
}

// holder returns a block of equal labels and resolution that was made of all the sources
// of m, or nil.
func holder(merged map[ulid.ULID][]*block.Meta, m *block.Meta) *block.Meta {
	if len(m.Compaction.Sources) == 0 {
		return nil
	}
	for _, h := range merged[m.Compaction.Sources[0]] {
		covers := h.Resolution() == m.Resolution() && h.MinTime <= m.MinTime && m.MaxTime <= h.MaxTime && maps.Equal(h.Thanos.Labels, m.Thanos.Labels)
		if covers && !slices.ContainsFunc(m.Compaction.Sources, func(s ulid.ULID) bool { return !slices.Contains(h.Compaction.Sources, s) }) {
			return h
		}
	}
	return nil
}

// CopyBlock copies a block: chunk segments, the columns object if there is one, index, then
// meta.json, each byte by byte. It keeps objects of the target that have the right size, so
// that an interrupted copy is continued; an upload is visible only as a whole. sizes are
// those of the source as listed. It returns the bytes that were copied. A block with missing files is refused.
// The error is bucket.ErrNotFound when the source has deleted the block meanwhile.
func CopyBlock(ctx context.Context, from bucket.Reader, to bucket.Bucket, id ulid.ULID, sizes map[string]int64) (copied int64, err error) {
	meta, err := bucket.ReadAll(ctx, from, block.Path(id, block.MetaFile), block.MaxMetaSize)
	if err != nil {
		return 0, fmt.Errorf("read meta.json of block %s: %w", id, err)
	}
	m, err := block.ParseMeta(meta)
	if err != nil {
		return 0, fmt.Errorf("block %s of the source: %w", id, err)
	}
	if found := CheckSizes(m, sizes); len(found) > 0 {
		return 0, fmt.Errorf("block %s of the source is damaged: %s", id, found[0].Details)
	}
	// Alphabetical order has the segments before the index.
	for _, rel := range slices.Sorted(maps.Keys(sizes)) {
		copies, err := isCopied(ctx, from, id, rel)
		if err != nil {
			return copied, err
		}
		if !copies {
			continue
		}
		n, err := copyObject(ctx, from, to, block.Path(id, rel), sizes[rel])
		copied += n
		if err != nil {
			return copied, err
		}
	}
	return copied + int64(len(meta)), upload(ctx, to, block.Path(id, block.MetaFile), bytes.NewReader(meta), int64(len(meta)))
}

// isCopied says whether an object of a block is one of its files. A columns object of another
// size than its name says is what an upload has left that failed; no reader uses it.
func isCopied(ctx context.Context, from bucket.Reader, id ulid.ULID, rel string) (bool, error) {
	columns, ok := blockcolumns.ParseName(rel)
	if !ok {
		return rel == block.IndexFile || isSegment(rel), nil
	}
	o, err := from.Stat(ctx, block.Path(id, rel))
	if err != nil {
		return false, fmt.Errorf("look at %s of the source: %w", block.Path(id, rel), err)
	}
	return o.Size == columns.Size, nil
}

// Backup copies all objects of a block as they are, meta.json last, also of a damaged one.
// It keeps objects of the target that have the right size.
func Backup(ctx context.Context, from bucket.Reader, to bucket.Bucket, id ulid.ULID) error {
	var names []string
	err := from.List(ctx, id.String(), func(o bucket.Object) error {
		if _, rel, ok := block.ParsePath(o.Name); ok && rel != "" && !strings.HasSuffix(rel, "/") && rel != block.MetaFile {
			names = append(names, o.Name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list block %s to copy it: %w", id, err)
	}
	for _, name := range append(names, block.Path(id, block.MetaFile)) {
		if _, err := copyObject(ctx, from, to, name, -1); err != nil {
			return fmt.Errorf("copy block %s into the backup bucket: %w", id, err)
		}
	}
	return nil
}

// copyObject copies an object unless the target has one of its size.
func copyObject(ctx context.Context, from bucket.Reader, to bucket.Bucket, name string, size int64) (n int64, err error) {
	if size < 0 {
		o, err := from.Stat(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("look at %s of the source: %w", name, err)
		}
		size = o.Size
	}
	o, err := to.Stat(ctx, name)
	if err == nil && o.Size == size {
		return 0, nil
	}
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return 0, fmt.Errorf("look at %s of the target: %w", name, err)
	}
	r, err := from.Get(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("read %s of the source: %w", name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return size, upload(ctx, to, name, r, size)
}

// upload writes an object and compares its size.
func upload(ctx context.Context, to bucket.Bucket, name string, r io.Reader, size int64) error {
	if err := to.Upload(ctx, name, r, size); err != nil {
		return fmt.Errorf("write %s to the target: %w", name, err)
	}
	o, err := to.Stat(ctx, name)
	if err != nil {
		return fmt.Errorf("verify %s of the target: %w", name, err)
	}
	if o.Size != size {
		return fmt.Errorf("verify %s of the target: it has %d bytes instead of %d", name, o.Size, size)
	}
	return nil
}
