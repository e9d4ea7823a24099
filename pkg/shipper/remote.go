package shipper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
)

// overlapError refuses to ship a compacted block that overlaps with one of the bucket.
type overlapError struct{ block, other ulid.ULID }

func (e *overlapError) Error() string {
	return fmt.Sprintf("block %s overlaps with block %s in the bucket, and is not shipped", e.block, e.other)
}

// overlap is a block that was found to overlap.
type overlap struct {
	err   *overlapError
	until time.Time
}

// overlapPause is the time after which the bucket is asked again about a block that
// overlapped: the compactor may have merged the other one.
const overlapPause = 10 * time.Minute

// checkOverlap compares a compacted block with the blocks of the bucket that
// have its external labels. It is covered if they were made of all its sources;
// otherwise a common time would mean duplicate samples, which is an *overlapError. A
// block that was made of no other sources than this one is no obstacle: the compactor
// removes it as outdated.
func (s *Shipper) checkOverlap(ctx context.Context, m *block.Meta) (covered bool, err error) {
	if o, ok := s.overlaps[m.ULID]; ok && time.Now().Before(o.until) {
		return false, o.err
	}
	all, err := s.withLabels(m)
	if err != nil {
		return false, fmt.Errorf("ship block %s: %w", m.ULID, err)
	}
	remote, err := s.remote(ctx)
	if err != nil {
		return false, fmt.Errorf("compare block %s with the bucket: %w", m.ULID, err)
	}
	want := all.ExternalLabels()

	own, sources := set(m.Compaction.Sources), map[ulid.ULID]bool{}
	var other *block.Meta
	for _, r := range remote {
		if r.Resolution() != block.ResolutionRaw || !labels.Equal(r.ExternalLabels(), want) {
			continue
		}
		replaced := len(r.Compaction.Sources) > 0
		for _, src := range r.Compaction.Sources {
			sources[src] = true
			replaced = replaced && own[src]
		}
		if !replaced && r.MinTime < m.MaxTime && m.MinTime < r.MaxTime {
			other = r
		}
	}
	if containsAll(sources, m.Compaction.Sources) {
		return true, nil
	}
	delete(s.overlaps, m.ULID)
	if other == nil {
		return false, nil
	}
	o := overlap{err: &overlapError{block: m.ULID, other: other.ULID}, until: time.Now().Add(overlapPause)}
	s.overlaps[m.ULID] = o
	return false, o.err
}

func set(ids []ulid.ULID) map[ulid.ULID]bool {
	out := make(map[ulid.ULID]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// containsAll says whether all of some ids, which must not be empty, are in the set.
func containsAll(in map[ulid.ULID]bool, ids []ulid.ULID) bool {
	all := len(ids) > 0
	for _, id := range ids {
		all = all && in[id]
	}
	return all
}

// maxIndexAge bounds the age of a block index that the first listing starts from.
const maxIndexAge = 7 * 24 * time.Hour

// remote returns the usable blocks of the bucket, listed once in a pass. They are not
// kept longer, because a bucket may have very many.
func (s *Shipper) remote(ctx context.Context) (map[ulid.ULID]*block.Meta, error) {
	if s.pass.remote != nil {
		return s.pass.remote, nil
	}
	p := blocklist.NewPoller(s.deps.Bucket, blocklist.Config{})
	// Without an index, or with a bad one, the listing reads every meta.json.
	if _, err := p.ReadIndex(ctx, maxIndexAge); err != nil && !errors.Is(err, blocklist.ErrNoIndex) {
		return nil, err
	}
	v, err := p.Poll(ctx)
	if err != nil {
		return nil, err
	}
	s.pass.remote = v.Metas
	return v.Metas, nil
}
