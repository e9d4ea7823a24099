package query

import (
	"errors"
	"fmt"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// LimitsConfig bounds one request, and all together. The flags of
// Config set the defaults.
type LimitsConfig struct {
	// Memory of 0 means a share of that of the machine.
	Memory          flags.Bytes
	RangeSteps      int
	ResultPoints    int64
	ListEntries     int64
	ExpressionNodes int
	// Tenants is the file of limits of tenants.
	Tenants         flags.PathOrContent
	FetchedSeries   int64
	FetchedChunks   int64
	FetchedBytes    flags.Bytes
	SubquerySteps   int64
	ExpressionBytes flags.Bytes
	ExpressionDepth int
	Selectors       int
	Matchers        int
	RegexpSize      int
}

// registerFlags adds the flags of all limits but those of time and concurrency.
func (c *LimitsConfig) registerFlags(r flags.Registrar) {
	r.Flag("query.max-memory", "Memory that all requests together may hold: data from stores, allocations of the engine, and results. "+
		"A request that does not fit waits while another one that holds memory makes progress, and then fails with 503; one that needs more than the limit alone fails with 422. "+
		"The process takes about twice the limit at its peak. 0 means a quarter of the memory of the cgroup or machine.").
		Default("0").SetValue(&c.Memory)
	r.Flag("query.max-fetched-series", "Series that one request may read from the stores; 0 means no limit.").
		Default("1000000").Int64Var(&c.FetchedSeries)
	r.Flag("query.max-fetched-chunks", "Chunks that one request may read from the stores; 0 means no limit.").
		Default("4000000").Int64Var(&c.FetchedChunks)
	r.Flag("query.max-fetched-bytes", "Bytes of labels and chunks that one request may read from the stores; 0 means no limit.").
		Default("1GiB").SetValue(&c.FetchedBytes)
	r.Flag("query.max-range-steps", "Steps that a range query may have; at most 11000, as in Prometheus.").
		Default("11000").IntVar(&c.RangeSteps)
	r.Flag("query.max-result-points", "Points that the result of a query may have: its series times its steps. 0 means no limit.").
		Default("20000000").Int64Var(&c.ResultPoints)
	r.Flag("query.max-list-entries", "Names or values of labels, or metrics with metadata, that one answer may have; 0 means no limit.").
		Default("2000000").Int64Var(&c.ListEntries)
	r.Flag("query.max-subquery-steps", "Steps that one subquery may have; 0 means no limit.").
		Default("1000000").Int64Var(&c.SubquerySteps)
	r.Flag("query.max-expression-bytes", "Length of an expression, or of all selectors of one request; 0 means no limit.").
		Default("128KiB").SetValue(&c.ExpressionBytes)
	r.Flag("query.max-expression-depth", "How deep an expression may be nested; each operator of a chain is one level. 0 means no limit.").
		Default("1000").IntVar(&c.ExpressionDepth)
	r.Flag("query.max-expression-nodes", "Operators, calls, selectors and literals that an expression may have; 0 means no limit.").
		Default("20000").IntVar(&c.ExpressionNodes)
	r.Flag("query.max-selectors", "Selectors that one request may have; 0 means no limit.").
		Default("1000").IntVar(&c.Selectors)
	r.Flag("query.max-matchers", "Label matchers that all selectors of one request may have; 0 means no limit.").
		Default("5000").IntVar(&c.Matchers)
	r.Flag("query.max-regexp-size", "Instructions to which the regular expressions of one request may compile; a list of literal values has about as many as bytes. 0 means no limit.").
		Default("250000").IntVar(&c.RegexpSize)
	c.Tenants.Register(r, "query.limits-config", "limits of queries by tenant", true)
}

func (c *LimitsConfig) validate() error {
	if min(c.Memory.Int64(), c.FetchedSeries, c.FetchedChunks, c.FetchedBytes.Int64(), c.SubquerySteps, c.ExpressionBytes.Int64(), c.ResultPoints, c.ListEntries) < 0 ||
		min(c.ExpressionNodes, c.ExpressionDepth, c.Selectors, c.Matchers, c.RegexpSize) < 0 {
		return errors.New("limits of queries (--query.max-memory, -fetched-*, -result-points, -list-entries, -subquery-steps, -expression-*, -selectors, -matchers, -regexp-size) must not be negative")
	}
	if c.RangeSteps < 1 || c.RangeSteps > maxRangePoints {
		return fmt.Errorf("--query.max-range-steps=%d: choose 1 to %d", c.RangeSteps, maxRangePoints)
	}
	_, err := c.tenants()
	return err
}

// tenants reads the file of limits.
func (c *LimitsConfig) tenants() (*limitsFile, error) {
	content, err := c.Tenants.Content()
	if err != nil {
		return nil, err
	}
	f, err := parseLimitsFile(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Tenants.Source(), err)
	}
	return f, nil
}

func (c *LimitsConfig) expressions() expressionLimits {
	return expressionLimits{
		Bytes: c.ExpressionBytes.Int64(), Depth: c.ExpressionDepth, Nodes: c.ExpressionNodes,
		Selectors: c.Selectors, Matchers: c.Matchers, RegexpSize: c.RegexpSize,
	}
}

func (c *LimitsConfig) fetch(maxSamples int) fetchLimits {
	return fetchLimits{Samples: int64(maxSamples), Series: c.FetchedSeries, Chunks: c.FetchedChunks, Bytes: c.FetchedBytes.Int64(), Points: c.ResultPoints, Entries: c.ListEntries}
}

// memory is the budget of the process in bytes.
func (c *LimitsConfig) memory() int64 {
	if c.Memory > 0 {
		return c.Memory.Int64()
	}
	// Where neither says how much there is, as much as a small machine has.
	const unknown, least = 1 << 30, 64 << 20
	total, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil || total == 0 || total > math.MaxInt64 {
		return unknown
	}
	return max(least, int64(total/4))
}
