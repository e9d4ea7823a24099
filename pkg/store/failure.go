package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// blockFailed decides whether the failure of a block is a warning or an error of
// the request, and reports it. An exceeded limit is no failure of the block.
func (g *Gateway) blockFailed(failure *bucketblock.Error, p storeapi.PartialResponse) (storeapi.Warnings, error) {
	if errors.Is(failure, limit.ErrExceeded) {
		return nil, failure
	}
	g.reportFailure(failure)
	if p == storeapi.PartialAbort {
		return nil, fmt.Errorf("%w: %w", storeapi.ErrPartial, failure)
	}
	return storeapi.Warnings{{Text: failure.Error()}}, nil
}

// reportFailure counts and logs a failure, and quarantines a block with an unusable
// index. It drops the cached pages of a damaged block, because the damage may have
// happened in transit.
func (g *Gateway) reportFailure(err *bucketblock.Error) {
	why := reason.BlockUnreadable
	if err.Corrupt {
		why = reason.BlockDamaged
	}
	g.m.blockFailures.WithLabelValues(err.Part, why.String()).Inc()
	if !err.Corrupt {
		g.log.Warn("block read failed", "block", err.Block, "part", err.Part, "err", err.Err)
		if errors.Is(err, bucket.ErrNotFound) {
			g.askSync() // the block was deleted, or is not uploaded completely
		}
		return
	}
	g.env.Forget(err.Block)
	if err.Part == bucketblock.PartHeader {
		g.damage.add(err.Block, err.Err.Error(), time.Now())
		g.askSync() // other blocks may replace it
	}
	if g.damage.firstReport(err.Block, err.Part) {
		g.log.Error("damaged block is missing from answers", "block", err.Block, "part", err.Part, "err", err.Err)
	}
}

// askSync makes Run list the bucket soon.
func (g *Gateway) askSync() {
	select {
	case g.resync <- struct{}{}:
	default: // one is pending
	}
}
