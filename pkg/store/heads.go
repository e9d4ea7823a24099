package store

import (
	"context"
	"os"
	"path/filepath"

	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// headsDir is the directory of running recoveries of head logs.
const headsDir = "head-recovery"

// recoverHeads recovers the head logs of sources that are gone, after each listing of the
// bucket, which listed says, until ctx is cancelled. It runs beside the requests, and its failures are only
// logged.
func (g *Gateway) recoverHeads(ctx context.Context, listed <-chan struct{}) {
	after := g.cfg.RecoverHeadsAfter.Duration()
	if after == 0 || g.deps.Marks == nil {
		return
	}
	dir := filepath.Join(g.cfg.DataDir, headsDir)
	if g.cfg.UsesDataDir() { // and so has locked it
		if err := headrecovery.RemoveWork(dir); err != nil {
			g.log.Warn("rest of a recovery of a head log not removed", "dir", dir, "err", err)
		}
	}
	owner, err := os.Hostname()
	if err != nil {
		owner = "unknown"
	}
	auto := headrecovery.NewAuto(headrecovery.AutoConfig{
		After: after, Owner: owner,
		Config: headrecovery.Config{
			Bucket: g.deps.Marks, WorkDir: dir, Logger: g.log,
			Memory: g.cfg.RecoverHeadsMemory.Int64(), MemoryFlag: "--store.recover-heads-memory",
			Disk: g.cfg.RecoverHeadsDisk.Int64(), DiskFlag: "--store.recover-heads-disk",
		},
	}, g.deps.Registerer)
	for {
		select {
		case <-ctx.Done():
			return
		case <-listed:
		}
		g.mu.RLock()
		metas := g.blocks.view.Metas
		g.mu.RUnlock()
		wrote, err := auto.Pass(ctx, metas)
		if err != nil && ctx.Err() == nil {
			g.log.Warn("head logs not recovered", "err", err)
		}
		if wrote {
			select {
			case g.resync <- struct{}{}:
			default: // one is asked for already
			}
		}
	}
}
