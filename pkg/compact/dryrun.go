package compact

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// dryRun prints the plan. It does not write to the bucket, so it measures ages by the
// local clock.
func (c *Compactor) dryRun(ctx context.Context) error {
	p, err := c.look(ctx, time.Now(), true, nil)
	if err != nil {
		return err
	}
	return printPlan(c.out, &p)
}

// printPlan prints the jobs with their blocks, and the blocks that are skipped.
func printPlan(w io.Writer, p *plan.Plan) error {
	pr := &printer{w: w}
	for i := range p.Jobs {
		j := &p.Jobs[i]
		pr.printf("%s", j.Kind)
		if j.Kind == plan.Downsample {
			pr.printf(" to %s", plan.ResolutionName(j.Resolution))
		}
		if j.Kind != plan.CleanPartial {
			pr.printf(" %s %s..%s", j.Group, stamp(j.MinTime), stamp(j.MaxTime))
		}
		if j.Downsample > 0 {
			pr.printf(" and downsample to %s", plan.ResolutionName(j.Downsample))
		}
		pr.printf(": %s\n", j.Reason)
		for _, id := range j.Blocks {
			pr.printf("    %s\n", id)
		}
	}
	for _, s := range p.Skipped {
		pr.printf("skip %s: %s\n", s.Block, s.Details)
	}
	if len(p.Jobs) == 0 {
		pr.printf("nothing to do\n")
	}
	return pr.err
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
