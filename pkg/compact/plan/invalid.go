package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// InvalidReasons are the reasons for which a block is skipped because of its
// meta.json. Its group is planned as if the block did not exist.
func InvalidReasons() []reason.Reason {
	return []reason.Reason{
		reason.TimesOutOfRange, reason.EmptyTimeRange, reason.TimeRangeTooLong, reason.InTheFuture, reason.UnknownResolution,
	}
}

// Bounds of the times of blocks in milliseconds: the years 0 and 9999.
const (
	minBlockTime = -62167219200000
	maxBlockTime = 253402300799999
)

const (
	// maxSpan bounds the time of merged blocks. Prometheus makes blocks of up to
	// 31 days; a much longer block would make one merge of its whole group.
	maxSpan = 64 * 24 * time.Hour
	// maxAhead is how far the clock of a producer may be ahead.
	maxAhead = 24 * time.Hour
)

// invalid returns the reason why the meta.json of a block cannot be planned with,
// empty if it can.
func (m *maker) invalid(b *block.Meta) (why reason.Reason, details string) {
	switch {
	case outOfRange(b):
		return reason.TimesOutOfRange, fmt.Sprintf("its times of %d to %d ms are outside the years 0 to 9999", b.MinTime, b.MaxTime)
	case b.MaxTime <= b.MinTime:
		return reason.EmptyTimeRange, fmt.Sprintf("its time range from %d to %d ms is empty", b.MinTime, b.MaxTime)
	case b.MinTime > m.now.Add(maxAhead).UnixMilli():
		return reason.InTheFuture, "it begins in the future, at " + time.UnixMilli(b.MinTime).UTC().Format(time.RFC3339)
	}
	switch r := b.Resolution(); r {
	case block.ResolutionRaw, block.Resolution5m, block.Resolution1h:
		return "", ""
	default:
		return reason.UnknownResolution, fmt.Sprintf("its resolution of %d ms is unknown", r)
	}
}

func outOfRange(b *block.Meta) bool {
	return b.MinTime < minBlockTime || b.MinTime > maxBlockTime || b.MaxTime < minBlockTime || b.MaxTime > maxBlockTime
}

// tooLong says whether a block is too long to be merged. The times are in range.
func tooLong(b *block.Meta) bool { return b.MaxTime-b.MinTime > maxSpan.Milliseconds() }

// skipInvalid is skip with a reason for metrics.
func (m *maker) skipInvalid(b *block.Meta, why reason.Reason, details string) {
	m.plan.Skipped = append(m.plan.Skipped, Skip{Block: b.ULID, Details: details, Reason: why})
}

// sound says whether a block can supersede others: its meta.json is valid and its
// data is not known to be damaged or to lack a file.
func (m *maker) sound(b *block.Meta) bool {
	_, bad := m.view.Quarantined[b.ULID]
	_, incomplete := m.view.Incomplete[b.ULID]
	why, _ := m.invalid(b)
	return !bad && !incomplete && why == ""
}

// blockSpan is the length of a block whose times are in range, at most the longest
// Duration.
func blockSpan(b *block.Meta) time.Duration {
	ms := b.MaxTime - b.MinTime
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	return millis(ms)
}

// sourceSet returns the sources of a block as a set, which is made once, because
// long lists of sources are compared with many others.
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
