package headrecovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// Names of the objects that recovery writes into a generation.
const (
	recoveredName = headlog.RecoveredName
	claimName     = "claim.json"
)

// maxJSON bounds the size of these objects, in bytes.
const maxJSON = 1 << 20

// State says what can be done with a head.
type State string

// The states of a head.
const (
	// Growing: its newest object is too young.
	Growing State = "growing"
	// Lost: it has samples that no block of the bucket has.
	Lost State = "lost"
	// InBlocks: blocks have all samples, so that it only has to be removed.
	InBlocks State = "in_blocks"
	// Recovered: its samples are in blocks, and its removal has not ended.
	Recovered State = "recovered"
	// Damaged: it was recovered as far as it can be read, and is kept for its
	// operator.
	Damaged State = "damaged"
	// Unlabelled: it has no source.json, so that nobody knows its external labels.
	Unlabelled State = "no_labels"
)

// Head is a generation of a head log in the bucket.
type Head struct {
	*headlog.Generation
	// Labels are the external labels; empty when they are unknown.
	Labels labels.Labels
	// MinTime and MaxTime are those of the samples, in milliseconds, inclusive;
	// HasSamples says whether there are any.
	MinTime, MaxTime int64
	HasSamples       bool
	// LogBytes are the bytes of the write-ahead and write-behind log that the pieces
	// cover, as their names say, each once. Listings of some buckets have no sizes of
	// objects; what a checkpoint holds is not counted.
	LogBytes int64
	State    State

	recovered *recovered
}

// recovered is the content of recovered.json.
type recovered struct {
	Version int         `json:"version"`
	Seq     uint64      `json:"seq"` // of the last piece whose samples the blocks have
	Blocks  []ulid.ULID `json:"blocks"`
	// Damaged describes what could not be read; the pieces are kept then.
	Damaged string `json:"damaged,omitempty"`
}

// Age is the time since the newest object of the head; zero when the bucket does not say.
func (h *Head) Age(now time.Time) time.Duration {
	if h.Modified.IsZero() {
		return 0
	}
	return now.Sub(h.Modified)
}

// list lists all heads, without their labels.
func list(ctx context.Context, bkt bucket.Reader, dir string) ([]*Head, error) {
	var l headlog.Listing
	err := bkt.List(ctx, dir, func(o bucket.Object) error {
		l.Add(o.Name, o.Size, o.LastModified)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list head logs: %w", err)
	}
	var out []*Head
	for _, g := range l.Generations() {
		h := &Head{Generation: g, LogBytes: logBytes(g.Pieces)}
		if err := h.statTime(ctx, bkt); err != nil {
			return nil, err
		}
		for _, p := range g.Pieces {
			if !p.Kind.HasSamples() {
				continue
			}
			if !h.HasSamples {
				h.MinTime, h.MaxTime, h.HasSamples = p.MinTime, p.MaxTime, true
			}
			h.MinTime, h.MaxTime = min(h.MinTime, p.MinTime), max(h.MaxTime, p.MaxTime)
		}
		out = append(out, h)
	}
	return out, nil
}

// statTime asks for the time of the newest object if the listing had none, as those of
// some providers. A head that is gone keeps no time.
func (h *Head) statTime(ctx context.Context, bkt bucket.Reader) error {
	if !h.Modified.IsZero() {
		return nil
	}
	newest := h.Dir() + "/" + headlog.InfoName
	switch {
	case len(h.Pieces) > 0:
		newest = h.Pieces[len(h.Pieces)-1].Object
	case !h.HasInfo:
		newest = h.Dir() + "/" + recoveredName
	}
	o, err := bkt.Stat(ctx, newest)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return fmt.Errorf("look for age of head log: %w", err)
	}
	h.Modified = o.LastModified
	return nil
}

// logBytes returns how many bytes of the logs the pieces cover. Ranges of one segment
// overlap when its series were shipped apart from its samples.
func logBytes(pieces []headlog.Piece) int64 {
	type segment struct {
		behind bool // of the write-behind log
		number int
	}
	type span struct{ from, end int64 }
	spans := map[segment][]span{}
	for _, p := range pieces {
		switch p.Kind {
		case headlog.KindSeries, headlog.KindWAL, headlog.KindWBL:
			at := segment{p.Kind == headlog.KindWBL, p.Segment}
			spans[at] = append(spans[at], span{p.From, p.End})
		}
	}
	var n int64
	for _, ranges := range spans {
		slices.SortFunc(ranges, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		var end int64
		for _, r := range ranges {
			n += max(0, r.end-max(end, r.from))
			end = max(end, r.end)
		}
	}
	return n
}

// List returns the heads of a bucket with their labels and states, ordered by source and
// from old to new. A head whose newest object is younger than olderThan at the time now
// is growing. The keys of metas are not used.
func List(ctx context.Context, bkt bucket.Reader, metas map[ulid.ULID]*block.Meta, now time.Time, olderThan time.Duration) ([]*Head, error) {
	heads, err := list(ctx, bkt, headlog.Dir)
	if err != nil {
		return nil, err
	}
	for _, h := range heads {
		if err := h.load(ctx, bkt); err != nil {
			return nil, err
		}
		h.State = h.state(metas, now, olderThan)
	}
	return heads, nil
}

// load reads the small objects of the head. A source.json that cannot be used gives no
// labels.
func (h *Head) load(ctx context.Context, bkt bucket.Reader) error {
	h.Labels, h.recovered = labels.EmptyLabels(), nil
	if h.HasInfo {
		b, err := bucket.ReadAll(ctx, bkt, h.Dir()+"/"+headlog.InfoName, headlog.MaxInfo)
		if err != nil && !errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrTooLarge) {
			return fmt.Errorf("read labels of head log: %w", err)
		}
		if info, derr := headlog.DecodeInfo(h.Source, b); err == nil && derr == nil {
			h.Labels = labels.FromMap(info.Labels)
		}
	}
	if !h.Generation.Recovered {
		return nil
	}
	b, err := bucket.ReadAll(ctx, bkt, h.Dir()+"/"+recoveredName, maxJSON)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrTooLarge) {
		return fmt.Errorf("read state of head log: %w", err)
	}
	var r recovered
	if err == nil && json.Unmarshal(b, &r) == nil && r.Version == 1 {
		h.recovered = &r
	}
	return nil
}

// state decides about a head that is loaded.
func (h *Head) state(metas map[ulid.ULID]*block.Meta, now time.Time, olderThan time.Duration) State {
	switch {
	case h.Age(now) < olderThan:
		return Growing
	case h.recovered != nil && h.lastSeq() <= h.recovered.Seq:
		if h.recovered.Damaged != "" {
			return Damaged
		}
		return Recovered
	case len(h.Pieces) == 0:
		return InBlocks // the rest of a removal
	case h.Labels.IsEmpty():
		return Unlabelled
	}
	covered := Covered(metas, h.Labels)
	for _, p := range h.Pieces {
		if p.Kind.HasSamples() && (p.Kind == headlog.KindWBL || !inside(p.MinTime, p.MaxTime, covered)) {
			return Lost
		}
	}
	return InBlocks
}

// lastSeq is the number of the newest piece.
func (h *Head) lastSeq() uint64 {
	if len(h.Pieces) == 0 {
		return 0
	}
	return h.Pieces[len(h.Pieces)-1].Seq
}

func inside(mint, maxt int64, ivs []tombstones.Interval) bool {
	for _, iv := range ivs {
		if iv.Mint <= mint && maxt <= iv.Maxt {
			return true
		}
	}
	return false
}

// Covered returns the times of which blocks have all samples that a source has written
// in order, both ends inclusive. They are those of the blocks that its Prometheus cut
// from its head; and of a block that was compacted once, if nothing is missing between
// its parents. A block that was compacted more often no longer says what its first
// parents were, so that it does not count: the samples of a head that lie in its range may
// never have come into the bucket. Blocks of out-of-order samples do not count, nor do
// blocks that have a recovered one among their sources, because that one ends within its
// two hours.
func Covered(metas map[ulid.ULID]*block.Meta, source labels.Labels) []tombstones.Interval {
	const cut = 2 * 60 * 60 * 1000
	var out tombstones.Intervals
	for _, m := range metas {
		if m.Resolution() != block.ResolutionRaw || m.MaxTime <= m.MinTime || !labels.Equal(m.ExternalLabels(), source) {
			continue
		}
		c := m.Compaction
		if c.FromOutOfOrder() || c.FromStaleSeries() || c.FromSelectedSeries() || headblock.Recovered(m.ULID) {
			continue
		}
		if c.Level > 1 && (int64(len(c.Sources)) < (m.MaxTime-m.MinTime+cut-1)/cut || !adjacent(m)) {
			continue
		}
		whole := true
		for _, id := range c.Sources {
			whole = whole && !headblock.Recovered(id)
		}
		if whole {
			out = out.Add(tombstones.Interval{Mint: m.MinTime, Maxt: m.MaxTime - 1})
		}
	}
	return out
}

// adjacent reports whether a compacted block was made of blocks that were not compacted,
// each of which begins where the one before it ends. A replaced Prometheus leaves a gap,
// because its first block begins with its first sample. A block of out-of-order samples,
// which could hide that gap, overlaps others.
func adjacent(m *block.Meta) bool {
	parents := slices.Clone(m.Compaction.Parents)
	if len(parents) == 0 || len(parents) != len(m.Compaction.Sources) {
		return false
	}
	slices.SortFunc(parents, func(a, b tsdb.BlockDesc) int { return cmp.Compare(a.MinTime, b.MinTime) })
	end := m.MinTime
	for _, p := range parents {
		if p.MinTime != end {
			return false
		}
		end = p.MaxTime
	}
	return end == m.MaxTime
}
