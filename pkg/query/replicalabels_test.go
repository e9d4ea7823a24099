package query

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// An HA pair needs no flag, over HTTP and over gRPC, and stays merged while one of the
// two is down.
func TestReplicaLabels_AreDetected(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr)
	const merged = `{__name__="up", cluster="eu", job="node"}=1 {__name__="up", cluster="us", job="node"}=1`
	check := func() {
		t.Helper()
		got, _ := q.vector("up", "time", now)
		require.Equal(t, merged, got)
		ans := instant(t, q.grpc(), &storepb.QueryRequest{Query: "up", TimeSeconds: 590, EnableDedup: true, EnablePartialResponse: true})
		require.NoError(t, ans.err)
		require.Equal(t, []string{
			`{__name__="up", cluster="eu", job="node"} 590000:1`, `{__name__="up", cluster="us", job="node"} 590000:1`,
		}, ans.lines())
	}
	check()
	require.JSONEq(t, `[{"__name__":"up","cluster":"us","job":"node"}]`, string(q.get("/api/v1/series", "match[]", `up{cluster="us"}`).Data))

	// A request that names its labels, or none, has those.
	got, _ := q.vector("count(up)", "time", now, "replicaLabels[]", "nothing")
	require.Equal(t, "{}=3", got)
	got, _ = q.vector("count(up)", "time", now, "replicaLabels[]", "")
	require.Equal(t, "{}=3", got)
	got, _ = q.vector("count(up)", "time", now, "dedup", "false")
	require.Equal(t, "{}=3", got)
	ans := instant(t, q.grpc(), &storepb.QueryRequest{Query: "count(up)", TimeSeconds: 590, EnableDedup: true, ReplicaLabels: []string{"nothing"}})
	require.Equal(t, []string{"{} 590000:3"}, ans.lines())

	for _, gone := range []*backend{b, a} {
		gone.kill()
		q.waitFor("missing", gone.addr)
		check()
		gone.start(gone.addr)
		q.waitFor("up", gone.addr)
	}
	check()
}

func TestReplicaLabels_AreNotDetected(t *testing.T) {
	a, b, us := haPair(t)
	for _, flag := range []string{"--no-query.detect-replica-labels", "--query.replica-label=other", "--selector.relabel-config=[{source_labels: [replica], regex: b, action: drop}]"} {
		q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr, flag)
		got, _ := q.vector("count(up{replica=~'a|b'})", "time", now)
		if flag[2] == 's' {
			require.Equal(t, "{}=2", got)
			got, _ = q.vector("count by (replica) (up)", "time", now)
			require.Equal(t, `{replica="a"}=2`, got)
			continue
		}
		require.Equal(t, "{}=3", got, flag)
	}
}

// Queriers below merge by the labels that the querier of the request detected, although
// each sees one replica only.
func TestReplicaLabels_TravelToQueriersBelow(t *testing.T) {
	a, b, us := haPair(t)
	one := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr)
	two := startQuerier(t, "--endpoint="+us.addr)
	top := startQuerier(t, "--endpoint="+one.listen(), "--endpoint="+two.listen(), "--query.mode=distributed")
	got, _ := top.vector("count(up)", "time", now)
	require.Equal(t, "{}=2", got)
	got, _ = top.vector("sum without (job) (up)", "time", now)
	require.Equal(t, `{cluster="eu"}=1 {cluster="us"}=1`, got)
	require.Positive(t, top.outcomes(outcomePushed))
}

// A label that was detected stays while any store announces it. The label sets are looked
// at when a store announced something new.
func TestReplicaDetector_KeepsLabels(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	var infos []storeapi.Info
	d := newReplicaDetector(func() []storeapi.Info { return infos }, Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: reg})
	announce := func(sets ...[]string) {
		infos = nil
		for _, s := range sets {
			infos = append(infos, storeapi.Info{LabelSets: []labels.Labels{labels.FromStrings(s...)}})
		}
	}
	require.Empty(t, d.names())
	a, b := []string{"cluster", "eu", "replica", "a"}, []string{"cluster", "eu", "replica", "b"}
	announce(a)
	require.Empty(t, d.names())
	announce(a, b)
	require.Equal(t, []string{"replica"}, d.names())
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte(`msg="replica label detected" label=replica`)))
	seen := &d.seen[0]
	require.Equal(t, []string{"replica"}, d.names())
	require.Same(t, seen, &d.seen[0], "nothing new was announced")
	announce(b)
	require.Equal(t, []string{"replica"}, d.names())
	announce(a, b, []string{"rule_replica", "0"}, []string{"rule_replica", "1"})
	require.Equal(t, []string{"replica", "rule_replica"}, d.names())
	require.Equal(t, 2, testutil.CollectAndCount(d.gauge))
	announce([]string{"cluster", "eu"}, []string{"rule_replica", "1"})
	require.Equal(t, []string{"rule_replica"}, d.names())
	require.Equal(t, 1, testutil.CollectAndCount(d.gauge))
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte(`msg="replica label no longer announced" label=replica`)))
	require.Equal(t, 2, bytes.Count(log.Bytes(), []byte(`msg="replica label detected"`)), log.String())

	// TSDBs of a querier below count, too.
	infos = []storeapi.Info{{TSDBs: []storeapi.TSDBInfo{{Labels: labels.FromStrings(a...)}, {Labels: labels.FromStrings(b...)}}}}
	require.Equal(t, []string{"replica"}, d.names())
}
