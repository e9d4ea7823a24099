package multitsdb

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// holding returns a DB with the data, whose series are spread over the tenants.
func holding(t *testing.T, data storetest.Data, tenants ...string) *DB {
	d := openDB(t, t.TempDir(), func(c *Config) {
		c.External = func(string) labels.Labels { return data.External }
		c.StartTimestamps = data.XOR2
	})
	for i, id := range tenants {
		tn, err := d.enter(id)
		require.NoError(t, err)
		app := tn.db.Appender(t.Context())
		for j, s := range data.Series {
			if j%len(tenants) != i {
				continue
			}
			for _, x := range s.Samples {
				if x.H != nil || x.FH != nil {
					_, err = app.AppendHistogram(0, s.Labels, x.T, x.H, x.FH)
				} else {
					_, err = app.Append(0, s.Labels, x.T, x.V)
				}
				require.NoError(t, err)
			}
		}
		require.NoError(t, app.Commit())
		tn.leave()
	}
	return d
}

// closeAllIdle closes all tenants that are not being read.
func closeAllIdle(t testing.TB, d *DB) {
	for _, tn := range d.all() {
		require.NoError(t, d.closeIdle(tn, time.Now().Add(2*time.Hour)))
	}
}

// maxClosings bounds the closings of one reopened, each of which takes long.
const maxClosings = 3

// reopened closes the tenants before its first calls, so that the calls open them.
type reopened struct {
	storeapi.Store
	t        testing.TB
	d        *DB
	closings atomic.Int32
}

func (r *reopened) closeFirst() {
	// The case on cancellation counts goroutines, of which an open TSDB has some.
	if !strings.HasSuffix(r.t.Name(), "/cancellation") && r.closings.Add(1) <= maxClosings {
		closeAllIdle(r.t, r.d)
	}
}

func (r *reopened) Select(ctx context.Context, q *storeapi.Request) storeapi.SeriesSet {
	r.closeFirst()
	return r.Store.Select(ctx, q)
}

func (r *reopened) LabelNames(ctx context.Context, q *storeapi.Request) ([]string, storeapi.Warnings, error) {
	r.closeFirst()
	return r.Store.LabelNames(ctx, q)
}

func (r *reopened) LabelValues(ctx context.Context, name string, q *storeapi.Request) ([]string, storeapi.Warnings, error) {
	r.closeFirst()
	return r.Store.LabelValues(ctx, name, q)
}

func TestStore_OpenTenantPassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		return holding(t, data, "a").Stores()[0]
	})
}

func TestStore_IdleTenantPassesTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		d := holding(t, data, "a")
		require.NoError(t, d.Flush(t.Context(), ""))
		return &reopened{Store: d.Stores()[0], t: t, d: d}
	})
}

func TestStore_AllTenantsPassTheSuite(t *testing.T) {
	storetest.RunFanout(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		d := holding(t, data, "a", "b", "c")
		require.NoError(t, d.Flush(t.Context(), "b"))
		node := fanout.New(d.Stores, fanout.Config{Component: "receive"})
		return &reopened{Store: node, t: t, d: d}
	})
}
