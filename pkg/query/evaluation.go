package query

import (
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// EvaluationConfig configures a Query that evaluates parts of the queries of other
// queriers over the store of its process, and serves nothing else.
type EvaluationConfig struct {
	// Enabled says whether the store evaluates queries.
	Enabled bool
	query   Config
}

// RegisterFlags adds the flag that switches the evaluation off, the limits, and the
// settings that have to be those of the queriers.
func (c *EvaluationConfig) RegisterFlags(r flags.Registrar) {
	c.query = DefaultConfig()
	q := &c.query
	r.Flag("store.evaluate-queries", "Evaluate the parts of queries that Hindsight queriers ask for, over the blocks of this gateway. Results travel then instead of chunks.").
		Default("true").BoolVar(&c.Enabled)
	q.registerEvaluationLimits(r)
	q.registerSettings(r)
}

// Validate returns an error for invalid flags.
func (c *EvaluationConfig) Validate() error { return c.query.Validate() }

// Query is the configuration of the querier that evaluates. It has no endpoints and no
// file of active queries, detects no replica labels, because each request names them, and
// does not log slow queries, which the querier that asks does.
func (c *EvaluationConfig) Query() Config {
	out := c.query
	out.DetectReplicaLabels, out.ActiveQueryPath, out.SlowQuery = false, "", 0
	return out
}

// Settings are what a querier compares with its own before it asks.
func (c *EvaluationConfig) Settings() string {
	if !c.Enabled {
		return ""
	}
	return c.query.settings()
}

// RegisterEvaluation serves queries over gRPC, and nothing else.
func (q *Query) RegisterEvaluation(r grpc.ServiceRegistrar) {
	storerpc.RegisterQuery(r, &queryService{q: q, queryable: q.queryable, defaults: q.defaults})
}
