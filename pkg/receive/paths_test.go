package receive

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"capnproto.org/go/capnp/v3/rpc"
	"capnproto.org/go/capnp/v3/rpc/transport"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// The paths of all families of senders work; one of them names the tenant.
func TestWritePaths_AcceptSendersOfAllFamilies(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	now := time.Now().UnixMilli()
	for _, c := range []struct {
		path   string
		header []string
		tenant string // "" is refused
	}{
		{"/api/v1/receive", nil, "default-tenant"},
		{"/api/v1/write", nil, "default-tenant"},
		{"/api/v1/push", nil, "default-tenant"},
		{"/api/prom/push", []string{"X-Scope-OrgID", "cortex"}, "cortex"},
		{"/api/v1/push/org", nil, "org"},
		{"/api/v1/push/org2", []string{"X-Scope-OrgID", "org2"}, "org2"},
		{"/api/v1/push/org", []string{"X-Scope-OrgID", "other"}, ""},
		{"/api/v1/push/..%2Fevil", nil, ""},
	} {
		a := post(t, m.url(c.path), v1(t, now, "x"), c.header...)
		if c.tenant == "" {
			require.Equal(t, 400, a.code, c.path)
			continue
		}
		require.Equal(t, 200, a.code, "%s: %s", c.path, a.body)
		require.Equal(t, 1, series(t, m.Store())[c.tenant+"/x"], c.path)
	}
	require.Len(t, m.db.Stats(), 4)
}

// A series with a tenant label that cannot be a tenant, or with two of them, is
// refused alone, by each version of remote write.
func TestInvalidTenantLabel_RejectsItsSeriesOnly(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SplitTenantLabel = "team"
	m := start(t, cfg, listen(t), nil)
	now := time.Now().UnixMilli()
	all := []prompb.TimeSeries{
		{Labels: named("x", "team", "a"), Samples: at(now, 1)},
		{Labels: named("x", "team", "../b"), Samples: at(now, 1)},
		{Labels: named("x", "team", "a", "z", "1", "team", "c"), Samples: at(now, 1)},
		{Labels: named("x", "z", "1", "a", "1"), Samples: at(now, 1)},
	}
	a := post(t, m.url("/api/v1/receive"), marshal(t, &prompb.WriteRequest{Timeseries: all}))
	require.Equal(t, 400, a.code)
	require.Contains(t, a.body, `"../b" contains a path separator`)
	require.Contains(t, a.body, "duplicate_label: 1 rejected")
	require.Equal(t, map[string]int{"a/x": 1, "default-tenant/x": 1}, series(t, m.Store()))
	a = post(t, m.url("/api/v1/receive"), asVersion2(t, all), version2Headers[:4]...)
	require.Equal(t, 400, a.code)
	require.Equal(t, "2", a.header.Get("X-Prometheus-Remote-Write-Samples-Written"))
}

func TestRing_PlacesSeriesByLabelsInAnyOrder(t *testing.T) {
	var nodes []*member
	lis := []net.Listener{listen(t), listen(t), listen(t)}
	for i := range lis {
		cfg := DefaultConfig()
		cfg.Hashrings = ringOf(lis...)
		nodes = append(nodes, start(t, cfg, lis[i], nil))
	}
	now := time.Now().UnixMilli()
	orders := [][]string{{"a", "1", "b", "2"}, {"b", "2", "a", "1"}, {"b", "2", "a", "1", "empty", ""}}
	for i, o := range orders {
		req := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: named("x", o...), Samples: at(now+int64(i), 1)}}}
		require.Equal(t, 200, post(t, nodes[i].url("/api/v1/receive"), marshal(t, req)).code)
	}
	require.Equal(t, 1, copies(t, nodes, "default-tenant/x"))
}

// A node that is prepared for removal has all data in the bucket, and refuses writes
// of senders and peers until the preparation is cancelled.
func TestPrepareDownscale_UploadsAndRefusesWrites(t *testing.T) {
	b := bucket.NewMemory()
	m := start(t, DefaultConfig(), listen(t), b)
	now := time.Now().UnixMilli()
	send := func(ts int64) int { return post(t, m.url("/api/v1/receive"), v1(t, ts, "x")).code }
	require.Equal(t, 200, send(now))
	a := get(t, m, "GET", "/-/prepare-downscale")
	require.Contains(t, a.body, `"head_series":1`)
	require.Contains(t, a.body, `"prepared":false,"timestamp":0`)

	a = get(t, m, "POST", "/-/prepare-downscale")
	require.Equal(t, 200, a.code, a.body)
	require.Contains(t, a.body, `"head_series":0,"blocks_not_uploaded":0,"prepared":true,"timestamp":1`)
	require.Equal(t, a.body, get(t, m, "POST", "/-/prepare-downscale").body, "the same time again")
	require.Equal(t, 503, send(now+1))
	batch := remotewrite.NewBuffer(0)
	scanned, err := remotewrite.ScanV1(batch, nil)
	require.NoError(t, err)
	require.Equal(t, remotewrite.NotReady, remotewrite.KindOf(m.db.Write(t.Context(), "default-tenant", scanned, nil)), "a peer's")
	scanned.Close()
	_, err = m.Appendable("default-tenant").Appender(t.Context()).Append(0, labels.FromStrings("__name__", "own"), now, 1)
	require.Error(t, err, "the program's own samples")
	require.Equal(t, 1, series(t, m.Store())["default-tenant/x"], "reads go on")
	require.NoError(t, m.Ready())

	for range 2 {
		a = get(t, m, "DELETE", "/-/prepare-downscale")
		require.Equal(t, 200, a.code)
		require.Contains(t, a.body, `"prepared":false,"timestamp":0`)
	}
	require.Equal(t, 200, send(now+1))
}

// Data that is not in the bucket is no success, and writes are taken.
func TestPrepareDownscale_FailedUploadKeepsAcceptingWrites(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil) // without a bucket
	now := time.Now().UnixMilli()
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now, "x")).code)
	a := get(t, m, "POST", "/-/prepare-downscale")
	require.Equal(t, 503, a.code)
	require.Contains(t, a.body, `"blocks_not_uploaded":1,"prepared":false`)
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now+1, "x")).code)
}

// An occupied Cap'n Proto address is an error when a flag gives it, but not when it
// is the default.
func TestCapnProtoAddress_FailsOnlyIfGivenAndInUse(t *testing.T) {
	taken := listen(t)
	defer taken.Close()
	r := &Receive{cfg: Config{CapnProtoAddress: taken.Addr().String()}, logger: slog.New(slog.DiscardHandler)}
	_, err := r.listenCapnp()
	require.True(t, flags.IsInvalid(err))
	require.ErrorContains(t, err, "--receive.capnproto-address")
	r.cfg.CapnProtoAddress = ""
	lis, err := r.listenCapnp()
	require.NoError(t, err)
	require.Nil(t, lis)

	cfg := DefaultConfig()
	free := listen(t)
	cfg.CapnProtoAddress = free.Addr().String()
	require.NoError(t, free.Close())
	m := start(t, cfg, listen(t), nil)
	conn, err := net.Dial("tcp", cfg.CapnProtoAddress)
	require.NoError(t, err)
	c := rpc.NewConn(transport.NewPackedStream(conn), nil)
	defer func() { require.NoError(t, c.Close()) }()
	w := capnpb.Writer(c.Bootstrap(t.Context()))
	defer w.Release()
	future, release := w.Write(t.Context(), func(p capnpb.Writer_write_Params) error {
		req, err := p.NewWr()
		require.NoError(t, err)
		s, err := req.NewSymbols()
		require.NoError(t, err)
		require.NoError(t, s.SetData([]byte("__name__up")))
		ends, err := s.NewOffsets(2)
		require.NoError(t, err)
		ends.Set(0, 8)
		ends.Set(1, 10)
		data, err := req.NewData(1)
		require.NoError(t, err)
		require.NoError(t, data.At(0).SetTenant("peer"))
		list, err := data.At(0).NewTimeSeries(1)
		require.NoError(t, err)
		ls, err := list.At(0).NewLabels(1)
		require.NoError(t, err)
		ls.At(0).SetValue(1)
		samples, err := list.At(0).NewSamples(2)
		require.NoError(t, err)
		samples.At(0).SetTimestamp(time.Time{}.UnixMilli()) // refused alone
		samples.At(1).SetTimestamp(time.Now().UnixMilli())
		return nil
	})
	defer release()
	answer, err := future.Struct()
	require.NoError(t, err)
	require.Equal(t, capnpb.WriteError_alreadyExists, answer.Error())
	text, err := answer.ExtraErrorContext()
	require.NoError(t, err)
	require.Contains(t, text, "too_far_in_past: 1 rejected")
	require.Equal(t, 1, series(t, m.Store())["peer/up"])
}
