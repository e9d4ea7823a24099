package multitsdb

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// traced is a series with a sample and an exemplar; extra are more labels.
func traced(name, id string, ts int64, extra ...prompb.Label) prompb.TimeSeries {
	s := float(name, ts, 1)
	s.Labels = append(s.Labels, extra...)
	s.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: id}}, Value: 4, Timestamp: ts}}
	return s
}

// exemplarsOf are the exemplars of all tenants: tenant/trace_id.
func exemplarsOf(t *testing.T, d *DB, mint, maxt int64, ms ...*labels.Matcher) (out []string) {
	t.Helper()
	all := fanout.New(d.Stores, fanout.Config{Component: "receive"})
	got, ws, err := all.Exemplars(t.Context(), &storeapi.ExemplarRequest{MinTime: mint, MaxTime: maxt, Selectors: [][]*labels.Matcher{ms}})
	require.NoError(t, err)
	require.Empty(t, ws)
	for _, s := range got {
		require.Equal(t, "r", s.Labels.Get("replica"))
		for _, e := range s.Exemplars {
			out = append(out, s.Labels.Get("tenant_id")+"/"+e.Labels.Get("trace_id"))
		}
	}
	return out
}

func TestExemplarsOfTenants(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", traced("x", "1", now), traced("y", "2", now)))
	require.NoError(t, write(t, d, "a", traced("x", "3", now+1000)))
	require.NoError(t, write(t, d, "b", traced("x", "4", now, prompb.Label{Name: "replica", Value: "own"})))
	// Prometheus sends exemplars in a series of their own.
	alone := traced("x", "5", now+2000)
	alone.Samples = nil
	require.NoError(t, write(t, d, "a", alone, alone))

	is := func(name, value string) *labels.Matcher {
		return labels.MustNewMatcher(labels.MatchEqual, name, value)
	}
	always := func(ms ...*labels.Matcher) []string { return exemplarsOf(t, d, math.MinInt64, math.MaxInt64, ms...) }
	require.Equal(t, []string{"b/4", "a/1", "a/3", "a/5"}, always(is("__name__", "x")))
	require.Equal(t, []string{"a/3"}, exemplarsOf(t, d, now+1, now+1000, is("__name__", "x")))
	require.Equal(t, []string{"a/2"}, always(is("__name__", "y"), is("replica", "r")))
	require.Equal(t, []string{"b/4"}, always(is("tenant_id", "b")))
	require.Empty(t, always(is("replica", "own")), "the label is the external one")
	require.Equal(t, []string{"b/4"}, always(is("exported_replica", "own")))
	require.Empty(t, always(is("tenant_id", "c")))

	stores := d.Stores()
	require.NoError(t, d.Close(context.WithoutCancel(t.Context())))
	_, _, err := stores[0].(storeapi.ExemplarStore).Exemplars(t.Context(), &storeapi.ExemplarRequest{Selectors: [][]*labels.Matcher{{}}})
	require.ErrorIs(t, err, errClosed)
}

func TestExemplarsOff(t *testing.T) {
	d := openDB(t, t.TempDir(), func(c *Config) { c.MaxExemplars = 0 })
	require.NoError(t, write(t, d, "a", traced("x", "1", time.Now().UnixMilli())))
	require.Empty(t, exemplarsOf(t, d, 0, math.MaxInt64))
}
