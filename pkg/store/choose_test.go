package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// TestChoose reads pictures: each line of "blocks" is a name, a resolution, the
// range and the sources of a block; "choose" answers with the picked blocks and the time for
// which each is needed.
func TestChoose(t *testing.T) {
	var metas []*block.Meta
	names := map[*block.Meta]string{}
	datadriven.RunTest(t, "testdata/choose.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "blocks":
			metas = nil
			for i, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				var name, res string
				m := &block.Meta{}
				fields, sources, _ := strings.Cut(line, " of=")
				_, err := fmt.Sscanf(fields, "%s %s %d-%d", &name, &res, &m.MinTime, &m.MaxTime)
				require.NoError(t, err, line)
				for _, s := range strings.Split(sources, ",") {
					if s != "" {
						m.Compaction.Sources = append(m.Compaction.Sources, ulid.MustParse(fmt.Sprintf("%026s", s)))
					}
				}
				m.ULID = ulid.MustNew(uint64(i+1), nil)
				m.Thanos.Downsample.Resolution = resolution(t, res)
				metas = append(metas, m)
				names[m] = name
			}
			return ""
		case "choose":
			var mint, maxt int64
			var res string
			d.ScanArgs(t, "from", &mint)
			d.ScanArgs(t, "to", &maxt)
			d.ScanArgs(t, "resolution", &res)
			var out strings.Builder
			for _, p := range choose(metas, choice{mint: mint, maxt: maxt, maxResolution: resolution(t, res), fillCoarser: d.HasArg("coarser")}) {
				fmt.Fprintf(&out, "%s for %d to %d\n", names[p.meta], p.mint, p.maxt)
			}
			if out.Len() == 0 {
				return "nothing\n"
			}
			return out.String()
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}

func resolution(t *testing.T, s string) int64 {
	r, ok := map[string]int64{"raw": block.ResolutionRaw, "5m": block.Resolution5m, "1h": block.Resolution1h}[s]
	require.True(t, ok, s)
	return r
}

// TestChoose_CoversEveryTimeOnce checks for random blocks that every time that a block of an
// acceptable resolution has is answered, by the coarsest such block.
func TestChoose_CoversEveryTimeOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	all := []int64{block.ResolutionRaw, block.Resolution5m, block.Resolution1h}
	for range 2000 {
		var metas []*block.Meta
		for range rng.IntN(8) {
			from := rng.Int64N(20)
			m := &block.Meta{BlockMeta: tsdb.BlockMeta{MinTime: from, MaxTime: from + 1 + rng.Int64N(8)}}
			m.Thanos.Downsample.Resolution = all[rng.IntN(3)]
			metas = append(metas, m)
		}
		mint := rng.Int64N(25) - 2
		maxt := mint + rng.Int64N(20)
		most := all[rng.IntN(3)]
		picks := choose(metas, choice{mint: mint, maxt: maxt, maxResolution: most})
		seen := map[*block.Meta]bool{}
		for _, p := range picks {
			require.False(t, seen[p.meta], "picked twice")
			seen[p.meta] = true
			require.True(t, p.meta.Overlaps(p.mint, p.maxt))
			require.LessOrEqual(t, p.meta.Resolution(), most)
		}
		for at := mint; at <= maxt; at++ {
			best := int64(-1)
			for _, m := range metas {
				if m.Overlaps(at, at) && m.Resolution() <= most {
					best = max(best, m.Resolution())
				}
			}
			for _, m := range metas {
				if !m.Overlaps(at, at) || m.Resolution() != best {
					continue
				}
				answered := false
				for _, p := range picks {
					answered = answered || (p.meta == m && p.mint <= at && at <= p.maxt)
				}
				require.True(t, answered, "time %d", at)
			}
		}
	}
}
