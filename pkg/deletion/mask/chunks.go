package mask

import (
	"math"

	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/chunkmask"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// chunks masks the chunks of a series, which may be of several resolutions: each run of
// one resolution by itself. Of raw chunks it keeps only samples within the time range of
// a request, unless within is nil.
func chunks(cs []storeapi.Chunk, deleted tombstones.Intervals, within *storeapi.Request) ([]storeapi.Chunk, error) {
	var out []storeapi.Chunk
	all := aggr.Resolutions(cs)
	for i := 0; i < len(cs); {
		res, k := all[i], i+1
		for k < len(cs) && all[k] == res {
			k++
		}
		hidden := deleted
		if res == 0 && within != nil {
			hidden = outside(deleted, within.MinTime, within.MaxTime)
		}
		kept, err := chunkmask.Series(cs[i:k], hidden, res)
		if err != nil {
			return nil, err
		}
		if k-i == len(cs) {
			return kept, nil
		}
		out = append(out, kept...)
		i = k
	}
	return out, nil
}

// outside adds all times that are not in [mint, maxt].
func outside(deleted tombstones.Intervals, mint, maxt int64) tombstones.Intervals {
	out := deleted
	if mint > math.MinInt64 {
		out = chunkmask.Add(out, tombstones.Interval{Mint: math.MinInt64, Maxt: mint - 1})
	}
	if maxt < math.MaxInt64 {
		out = chunkmask.Add(out, tombstones.Interval{Mint: maxt + 1, Maxt: math.MaxInt64})
	}
	return out
}
