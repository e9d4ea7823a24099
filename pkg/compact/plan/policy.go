package plan

import (
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Shortest blocks that are downsampled. A shorter block is downsampled only when it
// is out of retention.
const (
	downsampleRange5m = 40 * time.Hour
	downsampleRange1h = 10 * 24 * time.Hour
)

// DownsampleRange returns the length from which blocks of a resolution are downsampled, 0
// for the coarsest one.
func DownsampleRange(resolution int64) time.Duration {
	switch resolution {
	case block.ResolutionRaw:
		return downsampleRange5m
	case block.Resolution5m:
		return downsampleRange1h
	}
	return 0
}

// partialDelay is the time without a write after which a partial block counts as
// abandoned.
const partialDelay = 48 * time.Hour

// Policy is the configuration of the planner.
type Policy struct {
	// Ranges are the spans of merged blocks in milliseconds, ascending; the
	// first is that of fresh blocks.
	Ranges []int64
	// ReplicaLabels are removed from the external labels before blocks are
	// grouped.
	ReplicaLabels []string
	// Retention by resolution; missing or 0 keeps for ever.
	Retention map[int64]time.Duration
	// Rules are the retention of some series; the first that matches decides.
	Rules []RetentionRule
	// DeleteDelay is the time between a deletion mark and the deletion.
	DeleteDelay time.Duration
	// ConsistencyDelay is the age that a fresh block must have, so that all
	// its objects are visible.
	ConsistencyDelay time.Duration
	// Downsampling makes 5 m and 1 h blocks.
	Downsampling bool
	// Owns says whether this compactor works on the block; nil owns all. Blocks of
	// others count as existing data.
	Owns func(*block.Meta) bool
}

// Ranges returns the spans 2 h, 8 h, 2 d and 14 d.
func Ranges() []int64 {
	h := time.Hour.Milliseconds()
	return []int64{2 * h, 8 * h, 48 * h, 14 * 24 * h}
}

// Validate refuses policies under which downsampled data could never be made.
func (p *Policy) Validate() error {
	if len(p.Ranges) == 0 {
		return errors.New("no compaction ranges")
	}
	for i := 1; i < len(p.Ranges); i++ {
		if p.Ranges[i] <= p.Ranges[i-1] || p.Ranges[i]%p.Ranges[i-1] != 0 {
			return fmt.Errorf("compaction range %d ms is not a multiple of %d ms", p.Ranges[i], p.Ranges[i-1])
		}
	}
	if err := validateRules(p.Rules); err != nil || !p.Downsampling {
		return err
	}
	if r := p.Retention[block.ResolutionRaw]; r != 0 && r < downsampleRange5m {
		return fmt.Errorf("raw retention of %s is shorter than %s, the shortest block that is downsampled to 5m", span(r), span(downsampleRange5m))
	}
	if r := p.Retention[block.Resolution5m]; r != 0 && r < downsampleRange1h {
		return fmt.Errorf("5m retention of %s is shorter than %s, the shortest block that is downsampled to 1h", span(r), span(downsampleRange1h))
	}
	return nil
}

// OutOfRetention says whether all series of a block are out of the retention of its
// resolution, by the rules and the retention that they override.
func (p *Policy) OutOfRetention(b *block.Meta, now time.Time) bool {
	return p.expired(b, b.Resolution(), now)
}

// expired says whether all data of the block would be out of retention in a resolution.
func (p *Policy) expired(b *block.Meta, resolution int64, now time.Time) bool {
	return past(p.longest(b, resolution), b.MaxTime, now)
}
