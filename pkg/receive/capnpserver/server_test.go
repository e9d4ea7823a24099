package capnpserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"capnproto.org/go/capnp/v3"
	"capnproto.org/go/capnp/v3/rpc"
	"capnproto.org/go/capnp/v3/rpc/transport"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/receive/capnpserver/capnpb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store that records its writes.
type memory struct {
	mu     sync.Mutex
	series []string
	hists  []remotewrite.Histogram
	err    error
}

func (m *memory) Write(_ context.Context, tenant string, b *remotewrite.Batch, _ []uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range b.Len() {
		s := b.Series(i)
		text := tenant + " " + remotewrite.Text(s.Labels)
		items := remotewrite.ItemReader{B: s.Rest}
		for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
			switch item {
			case remotewrite.ItemSample:
				v, err := remotewrite.ParseSample(msg)
				text += fmt.Sprint(" ", v.V, "@", v.T, " ", err)
			case remotewrite.ItemExemplar:
				e, err := remotewrite.ParseExemplar(msg)
				text += fmt.Sprint(" ", e.Labels, e.Value, "@", e.Ts, " ", err)
			case remotewrite.ItemHistogram:
				h, err := remotewrite.ParseHistogram(msg)
				m.hists = append(m.hists, h)
				text += fmt.Sprint(" histogram@", h.T, " ", err)
			}
		}
		m.series = append(m.series, text)
	}
	return m.err
}

// serve starts a server and returns a client of it.
func serve(t *testing.T, store Store) capnpb.Writer {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- New(store, 1<<20, slog.New(slog.DiscardHandler)).Serve(ctx, lis) }()
	conn, err := net.Dial("tcp", lis.Addr().String())
	require.NoError(t, err)
	c := rpc.NewConn(transport.NewPackedStream(conn), nil)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		<-c.Done()
	})
	w := capnpb.Writer(c.Bootstrap(t.Context()))
	t.Cleanup(w.Release)
	return w
}

// send makes a request and returns the answer.
func send(t *testing.T, w capnpb.Writer, fill func(capnpb.WriteRequest)) (capnpb.WriteError, string, error) {
	t.Helper()
	future, release := w.Write(t.Context(), func(p capnpb.Writer_write_Params) error {
		r, err := p.NewWr()
		require.NoError(t, err)
		fill(r)
		return nil
	})
	defer release()
	res, err := future.Struct()
	if err != nil {
		return 0, "", err
	}
	text, err := res.ExtraErrorContext()
	require.NoError(t, err)
	return res.Error(), text, nil
}

func symbols(t *testing.T, r capnpb.WriteRequest, all ...string) {
	s, err := r.NewSymbols()
	require.NoError(t, err)
	require.NoError(t, s.SetData([]byte(strings.Join(all, ""))))
	ends, err := s.NewOffsets(int32(len(all)))
	require.NoError(t, err)
	end := 0
	for i, x := range all {
		end += len(x)
		ends.Set(i, uint32(end))
	}
}

func label(t *testing.T, s capnpb.TimeSeries, pairs ...uint32) {
	ls, err := s.NewLabels(int32(len(pairs) / 2))
	require.NoError(t, err)
	for i := range ls.Len() {
		ls.At(i).SetName(pairs[2*i])
		ls.At(i).SetValue(pairs[2*i+1])
	}
}

func sample(t *testing.T, s capnpb.TimeSeries, at int64, v float64) {
	list, err := s.NewSamples(1)
	require.NoError(t, err)
	list.At(0).SetTimestamp(at)
	list.At(0).SetValue(v)
}

// Samples, exemplars and both kinds of histograms of several tenants arrive as they
// were sent.
func TestWritesArrive(t *testing.T) {
	store := &memory{}
	w := serve(t, store)
	code, text, err := send(t, w, func(r capnpb.WriteRequest) {
		symbols(t, r, "__name__", "up", "", "job", "j", "trace", "abc")
		data, err := r.NewData(2)
		require.NoError(t, err)
		for i, tenant := range []string{"a", "b"} {
			tuple := data.At(i)
			require.NoError(t, tuple.SetTenant(tenant))
			list, err := tuple.NewTimeSeries(2)
			require.NoError(t, err)
			label(t, list.At(0), 0, 1, 3, 4)
			sample(t, list.At(0), -5, 1.5)
			es, err := list.At(0).NewExemplars(1)
			require.NoError(t, err)
			es.At(0).SetValue(7)
			es.At(0).SetTimestamp(9)
			ls, err := es.At(0).NewLabels(1)
			require.NoError(t, err)
			ls.At(0).SetName(5)
			ls.At(0).SetValue(6)
			label(t, list.At(1), 0, 1, 3, 2)
			fillHistograms(t, list.At(1))
		}
	})
	require.NoError(t, err)
	require.Equal(t, capnpb.WriteError_none, code, text)
	require.Equal(t, []string{
		`a {__name__="up", job="j"} 1.5@-5 <nil> {trace="abc"} 7@9 <nil>`, `a {__name__="up", job=""} histogram@11 <nil> histogram@12 <nil>`,
		`b {__name__="up", job="j"} 1.5@-5 <nil> {trace="abc"} 7@9 <nil>`, `b {__name__="up", job=""} histogram@11 <nil> histogram@12 <nil>`,
	}, store.series)
	require.Equal(t, &histogram.Histogram{
		CounterResetHint: histogram.NotCounterReset, Schema: -2, Count: 6, Sum: 2.5, ZeroThreshold: 0.25, ZeroCount: 1,
		PositiveSpans: []histogram.Span{{Offset: -3, Length: 2}}, PositiveBuckets: []int64{2, -1},
		NegativeSpans: []histogram.Span{{Offset: 4, Length: 1}}, NegativeBuckets: []int64{2},
	}, store.hists[0].Int)
	require.Equal(t, &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: 3, Count: 4.5, Sum: 1, ZeroThreshold: 0.5, ZeroCount: 0.5,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []float64{1.5, 2.5},
	}, store.hists[1].Float)
}

func fillHistograms(t *testing.T, s capnpb.TimeSeries) {
	hs, err := s.NewHistograms(2)
	require.NoError(t, err)
	h := hs.At(0)
	h.Count().SetCountInt(6)
	h.ZeroCount().SetZeroCountInt(1)
	h.SetSum(2.5)
	h.SetSchema(-2)
	h.SetZeroThreshold(0.25)
	h.SetResetHint(capnpb.Histogram_ResetHint_no)
	h.SetTimestamp(11)
	spans, err := h.NewPositiveSpans(1)
	require.NoError(t, err)
	spans.At(0).SetOffset(-3)
	spans.At(0).SetLength(2)
	deltas, err := h.NewPositiveDeltas(2)
	require.NoError(t, err)
	deltas.Set(0, 2)
	deltas.Set(1, -1)
	spans, err = h.NewNegativeSpans(1)
	require.NoError(t, err)
	spans.At(0).SetOffset(4)
	spans.At(0).SetLength(1)
	deltas, err = h.NewNegativeDeltas(1)
	require.NoError(t, err)
	deltas.Set(0, 2)

	h = hs.At(1)
	h.Count().SetCountFloat(4.5)
	h.ZeroCount().SetZeroCountFloat(0.5)
	h.SetSum(1)
	h.SetSchema(3)
	h.SetZeroThreshold(0.5)
	h.SetResetHint(capnpb.Histogram_ResetHint_gauge)
	h.SetTimestamp(12)
	spans, err = h.NewPositiveSpans(1)
	require.NoError(t, err)
	spans.At(0).SetOffset(1)
	spans.At(0).SetLength(2)
	counts, err := h.NewPositiveCounts(2)
	require.NoError(t, err)
	counts.Set(0, 1.5)
	counts.Set(1, 2.5)
}

// The older form has one tenant.
func TestOneTenant(t *testing.T) {
	store := &memory{}
	w := serve(t, store)
	code, text, err := send(t, w, func(r capnpb.WriteRequest) {
		symbols(t, r, "__name__", "up")
		require.NoError(t, r.SetTenant("old"))
		list, err := r.NewTimeSeries(1)
		require.NoError(t, err)
		label(t, list.At(0), 0, 1)
		sample(t, list.At(0), 1, 2)
	})
	require.NoError(t, err)
	require.Equal(t, capnpb.WriteError_none, code, text)
	require.Equal(t, []string{`old {__name__="up"} 2@1 <nil>`}, store.series)
}

// Each kind of error has its code, by which the peer retries or not.
func TestErrorsOfTheStore(t *testing.T) {
	store := &memory{}
	w := serve(t, store)
	for kind, want := range map[remotewrite.Kind]capnpb.WriteError{
		remotewrite.Conflict: capnpb.WriteError_alreadyExists, remotewrite.Invalid: capnpb.WriteError_alreadyExists, remotewrite.TooLarge: capnpb.WriteError_alreadyExists,
		remotewrite.NotReady: capnpb.WriteError_unavailable, remotewrite.LimitExceeded: capnpb.WriteError_internal,
		remotewrite.Other: capnpb.WriteError_internal,
	} {
		store.err = remotewrite.Errorf(kind, "failed")
		code, text, err := send(t, w, func(r capnpb.WriteRequest) {
			data, err := r.NewData(1)
			require.NoError(t, err)
			require.NoError(t, data.At(0).SetTenant("t"))
		})
		require.NoError(t, err)
		require.Equal(t, want, code, "%v", kind)
		text, id := errorid.Split(text)
		require.Equal(t, "failed", text)
		require.Equal(t, kind.ErrorID(), id)
	}
}

// Hostile requests are refused, take no more than their bound, and leave the
// connection, and others, alone.
func TestHostileRequests(t *testing.T) {
	store := &memory{}
	w := serve(t, store)
	series := func(r capnpb.WriteRequest, n int32) capnpb.TimeSeries_List {
		list, err := r.NewTimeSeries(n)
		require.NoError(t, err)
		return list
	}
	for name, fill := range map[string]func(r capnpb.WriteRequest){
		"no such symbol": func(r capnpb.WriteRequest) {
			symbols(t, r, "a")
			label(t, series(r, 1).At(0), 0, 1)
		},
		"symbols out of order": func(r capnpb.WriteRequest) {
			symbols(t, r, "a", "b")
			s, err := r.Symbols()
			require.NoError(t, err)
			ends, err := s.Offsets()
			require.NoError(t, err)
			ends.Set(0, 1<<31)
		},
		"one symbol a thousand times": func(r capnpb.WriteRequest) {
			symbols(t, r, "a", strings.Repeat("x", 10_000))
			list := series(r, 1000)
			for i := range list.Len() {
				label(t, list.At(i), 0, 1)
			}
		},
		"a list of nothing": func(r capnpb.WriteRequest) {
			list, err := capnp.NewCompositeList(r.Segment(), capnp.ObjectSize{}, 1<<28)
			require.NoError(t, err)
			require.NoError(t, capnp.Struct(r).SetPtr(1, list.ToPtr()))
		},
		"no name": func(r capnpb.WriteRequest) { require.NoError(t, capnp.Struct(r).SetPtr(0, capnp.Struct(r).ToPtr())) },
	} {
		code, text, err := send(t, w, fill)
		if err == nil && name != "no name" {
			require.Equal(t, capnpb.WriteError_alreadyExists, code, "%s: %s", name, text)
		}
	}
	require.Empty(t, store.series)
	code, _, err := send(t, w, func(r capnpb.WriteRequest) {
		symbols(t, r, "__name__", "up")
		label(t, series(r, 1).At(0), 0, 1)
	})
	require.NoError(t, err)
	require.Equal(t, capnpb.WriteError_none, code)
	require.Len(t, store.series, 1)
}
