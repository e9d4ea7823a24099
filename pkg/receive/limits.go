package receive

import (
	"context"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// requestLimit is the most bytes of a request of the tenant, decompressed.
func (r *Receive) requestLimit(string) int64 { return r.cfg.MaxRequestBytes.Int64() }

// admit waits for a place among the concurrent requests.
func (r *Receive) admit(context.Context, string) (done func(), err error) { return func() {}, nil }

func (r *Receive) checkCounts(string, remotewrite.Counts) error { return nil }
