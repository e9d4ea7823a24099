package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Codes of blocks whose meta.json cannot be planned with. The block is left
// alone, and its group goes on as if it were not there.
const (
	CodeTimes      = "times_out_of_range"
	CodeEmptyRange = "empty_time_range"
	CodeTooLong    = "time_range_too_long"
	CodeFuture     = "in_the_future"
	CodeResolution = "unknown_resolution"
)

// Bounds of the times of blocks in milliseconds: the years 0 and 9999.
const (
	minBlockTime = -62167219200000
	maxBlockTime = 253402300799999
)

const (
	// maxSpan bounds the time of merged blocks. Prometheus makes blocks of up to
	// 31 days; a block that is much longer would draw the whole group into one
	// merge.
	maxSpan = 64 * 24 * time.Hour
	// maxAhead is how far the clock of a producer may be ahead.
	maxAhead = 24 * time.Hour
)

// odd says why a block cannot be planned with; an empty code says that it can.
func (m *maker) odd(b *block.Meta) (code, reason string) {
	switch {
	case outOfRange(b):
		return CodeTimes, fmt.Sprintf("its times of %d to %d ms are outside the years 0 to 9999", b.MinTime, b.MaxTime)
	case b.MaxTime <= b.MinTime:
		return CodeEmptyRange, fmt.Sprintf("its time range from %d to %d ms is empty", b.MinTime, b.MaxTime)
	case b.MinTime > m.now.Add(maxAhead).UnixMilli():
		return CodeFuture, "it begins in the future, at " + time.UnixMilli(b.MinTime).UTC().Format(time.RFC3339)
	}
	switch r := b.Resolution(); r {
	case block.ResolutionRaw, block.Resolution5m, block.Resolution1h:
		return "", ""
	default:
		return CodeResolution, fmt.Sprintf("its resolution of %d ms is unknown", r)
	}
}

func outOfRange(b *block.Meta) bool {
	return b.MinTime < minBlockTime || b.MinTime > maxBlockTime || b.MaxTime < minBlockTime || b.MaxTime > maxBlockTime
}

// tooLong says whether a block is too long to be merged. The times are in range.
func tooLong(b *block.Meta) bool { return b.MaxTime-b.MinTime > maxSpan.Milliseconds() }

// leave is skip with a code for metrics.
func (m *maker) leave(b *block.Meta, code, reason string) {
	m.plan.Skipped = append(m.plan.Skipped, Skip{Block: b.ULID, Reason: reason, Code: code})
}

// sound says whether what the meta.json of a block says of its data can make
// other blocks superfluous.
func (m *maker) sound(b *block.Meta) bool {
	_, bad := m.view.Quarantined[b.ULID]
	code, _ := m.odd(b)
	return !bad && code == ""
}

// span of a block whose times are in range; a longer one than a Duration can
// hold is the longest Duration.
func blockSpan(b *block.Meta) time.Duration {
	ms := b.MaxTime - b.MinTime
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return millis(ms)
}

// sourceSet returns the sources of a block as a set, which is made once: lists
// of sources can be long, and be compared with many others.
func (m *maker) sourceSet(b *block.Meta) map[ulid.ULID]bool {
	if s, ok := m.sets[b.ULID]; ok {
		return s
	}
	s := make(map[ulid.ULID]bool, len(b.Compaction.Sources))
	for _, id := range b.Compaction.Sources {
		s[id] = true
	}
	m.sets[b.ULID] = s
	return s
}
