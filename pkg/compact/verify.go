package compact

import "github.com/hindsight-io/hindsight/pkg/compact/blockcheck"

// checker verifies a merge or downsampling of the inputs; it is nil without verification.
func (c *Compactor) checker(inputs []input, cfg blockcheck.Config) *blockcheck.Checker {
	for _, in := range inputs {
		cfg.Series += in.meta.Stats.NumSeries
	}
	cfg.Mode, cfg.Func = blockcheck.Mode(c.cfg.Verify), c.cfg.dedupFunc()
	return blockcheck.New(cfg)
}
