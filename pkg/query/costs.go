package query

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// costs remembers what queries have cost, so that one that will be heavy waits for a
// heavy slot before it asks the stores. Dashboards and rules ask the same again and
// again. It may be used concurrently.
type costs struct {
	seed maphash.Seed

	mtx sync.Mutex
	// known is a table without collision lists: another query may take an entry.
	known [knownCosts]knownCost
}

const knownCosts = 4096

type knownCost struct {
	key  uint64
	work int64
}

func newCosts() *costs { return &costs{seed: maphash.MakeSeed()} }

// key names queries of a tenant that have the same expression, range and step, whenever
// they are evaluated.
func (c *costs) key(tenant, expression string, s *parser.EvalStmt) uint64 {
	return maphash.Comparable(c.seed, struct {
		tenant, expression string
		span, step         time.Duration
	}{tenant, expression, s.End.Sub(s.Start), s.Interval})
}

// of is the work of the last query with the key; 0 when it is not known.
func (c *costs) of(key uint64) int64 {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if k := &c.known[key%knownCosts]; k.key == key {
		return k.work
	}
	return 0
}

// note records what a query has cost. One that failed may have cost more at its end.
func (c *costs) note(key uint64, work int64, failed bool) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	k := &c.known[key%knownCosts]
	if failed && k.key == key {
		work = max(work, k.work)
	}
	*k = knownCost{key: key, work: work}
}
