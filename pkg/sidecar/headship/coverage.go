package headship

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// coverage is what the blocks of the data directory say about samples of the log.
type coverage struct {
	blocks []coveredRange
	// firstWBL is the number of the first segment of the write-behind log on disk.
	firstWBL int
}

// coveredRange is a block of the data directory; end is exclusive.
type coveredRange struct {
	mint, end int64
	shipped   bool
	// inOrder says that the block was cut from the head in order: with it, all samples of
	// its range that Prometheus appended in order are in blocks.
	inOrder bool
}

// readCoverage reads the meta.json of blocks that are new in the data directory. The
// directory is read after the write-behind log was listed, because Prometheus writes the
// blocks first and then truncates that log.
func (s *Shipper) readCoverage(wbl *logDir) (*coverage, error) {
	entries, err := s.deps.FS.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list blocks of %s: %w", s.cfg.Dir, err)
	}
	c := &coverage{firstWBL: 1 << 30}
	if !wbl.empty() {
		c.firstWBL = wbl.first()
	}
	metas := map[ulid.ULID]*block.Meta{}
	for _, e := range entries {
		id, ok := block.ParseID(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		m := s.metas[id]
		if m == nil {
			if m, err = block.ReadMetaDir(filepath.Join(s.cfg.Dir, e.Name())); err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					s.deps.Logger.Debug("block not readable", "block", id, "err", err)
				}
				// Its range is unknown, so its samples stay in the bucket as pieces.
				c.blocks = append(c.blocks, coveredRange{mint: math.MinInt64, end: math.MaxInt64})
				continue
			}
		}
		metas[id] = m
		h := &m.Compaction
		c.blocks = append(c.blocks, coveredRange{
			mint: m.MinTime, end: m.MaxTime,
			shipped: m.Stats.NumSamples == 0 || s.deps.Shipped(id),
			inOrder: !h.FromOutOfOrder() && !h.FromStaleSeries() && !h.FromSelectedSeries(),
		})
	}
	s.metas = metas
	return c, nil
}

// holds says whether blocks in the bucket hold all samples of a piece: all blocks of the
// directory that have times in common with it are in the bucket, and Prometheus has cut
// the samples into blocks. It has done so with samples of the write-behind log once it has
// deleted their segment. It has done so with those of the write-ahead log once a block that
// was cut in order contains the highest time; older times that were out of order are in the
// write-behind log too.
func (c *coverage) holds(n headlog.Name) bool {
	cut := n.Kind == headlog.KindWBL && n.Segment < c.firstWBL
	for _, b := range c.blocks {
		if b.mint > n.MaxTime || b.end <= n.MinTime {
			continue
		}
		if !b.shipped {
			return false
		}
		cut = cut || n.Kind != headlog.KindWBL && b.inOrder && n.MaxTime < b.end
	}
	return cut
}

// before says whether a piece is older than all blocks of the directory, so that its
// fate cannot be known any more.
func (c *coverage) before(n headlog.Name) bool {
	return len(c.blocks) > 0 && !slices.ContainsFunc(c.blocks, func(b coveredRange) bool { return b.mint <= n.MaxTime })
}

// holdsRange says whether blocks in the bucket that were cut in order contain each time
// of a range. It does not depend on which log the range is from.
func (c *coverage) holdsRange(mint, maxt int64) bool {
	blocks := slices.Clone(c.blocks)
	slices.SortFunc(blocks, func(a, b coveredRange) int {
		return cmp.Compare(a.mint, b.mint)
	})
	for _, b := range blocks {
		if b.shipped && b.inOrder && b.mint <= mint && mint < b.end {
			if maxt < b.end {
				return true
			}
			mint = b.end
		}
	}
	return false
}
