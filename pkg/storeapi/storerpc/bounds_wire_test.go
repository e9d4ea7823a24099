package storerpc_test

import (
	"bytes"
	"math"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// rawBytes is a message that is its own wire form.
type rawBytes struct{ b []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(*rawBytes).b)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	v.(*rawBytes).b = data.Materialize()
	return nil
}

// rawServer answers every call, whatever its method, with one message of these bytes.
func rawServer(t *testing.T, answer []byte) *storerpc.Client {
	conn := storetest.Dial(t, func(*grpc.Server) {}, grpc.ForceServerCodecV2(rawCodec{}), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(&rawBytes{}); err != nil {
				return err
			}
			return stream.SendMsg(&rawBytes{answer})
		}))
	return storerpc.NewClient(conn, "x:1")
}

// field is a field with bytes as its value.
func field(n protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
}

// empties are so many bytes of empty elements of a field.
func empties(n protowire.Number, size int) []byte {
	one := field(n, nil)
	return bytes.Repeat(one, size/len(one))
}

// Elements of two bytes on the wire take up to a hundred bytes in memory. An answer with
// more of them than its bound is refused before it is decoded, for each kind of answer.
func TestClient_RefusesAnswersThatGrowInMemory(t *testing.T) {
	names := empties(1, 40<<20)
	for name, c := range map[string]struct {
		answer []byte
		call   func(*storerpc.Client) error
	}{
		"label names": {names, func(c *storerpc.Client) error {
			_, _, err := c.LabelNames(t.Context(), &storeapi.Request{})
			return err
		}},
		"label values": {names, func(c *storerpc.Client) error {
			_, _, err := c.LabelValues(t.Context(), "a", &storeapi.Request{})
			return err
		}},
		"warnings beside values": {empties(2, 40<<20), func(c *storerpc.Client) error {
			_, _, err := c.LabelValues(t.Context(), "a", &storeapi.Request{})
			return err
		}},
		"label sets": {empties(1, 8<<20), func(c *storerpc.Client) error { return c.Refresh(t.Context()) }},
		"labels":     {field(1, empties(1, 8<<20)), func(c *storerpc.Client) error { return c.Refresh(t.Context()) }},
		"TSDBs":      {field(3, empties(6, 8<<20)), func(c *storerpc.Client) error { return c.Refresh(t.Context()) }},
		"metadata": {field(1, field(1, append(field(1, []byte("m")), field(2, empties(2, 20<<20))...))), func(c *storerpc.Client) error {
			_, _, err := c.Metadata(t.Context(), "", -1)
			return err
		}},
		"exemplars": {field(1, empties(2, 7<<20)), func(c *storerpc.Client) error {
			_, _, err := c.Exemplars(t.Context(), exemplarRequest())
			return err
		}},
		"series of a result": {field(4, empties(1, 40<<20)), func(c *storerpc.Client) error {
			return query(t, c)
		}},
		"samples of a result": {field(2, empties(2, 40<<20)), func(c *storerpc.Client) error {
			return query(t, c)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			client := rawServer(t, c.answer)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := c.call(client)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, limit.ErrExceeded)
			require.ErrorContains(t, err, "x:1")
			// The message itself, received in parts and joined.
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*len(c.answer)+64<<20))
		})
	}
}

func exemplarRequest() *storeapi.ExemplarRequest {
	return &storeapi.ExemplarRequest{Selectors: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "a", "b")}}}
}

func query(t *testing.T, c *storerpc.Client) error {
	_, err := c.Query(t.Context(), &storerpc.QueryRequest{Query: "a"}, func(promql.Series) error { return nil })
	return err
}

// Names of components become label values of metrics, and names of replica labels too:
// what is not UTF-8 would end the process.
func TestRefresh_AnnouncesOnlyUsableTexts(t *testing.T) {
	set := func(kv ...string) *labelpb.ZLabelSet {
		out := &labelpb.ZLabelSet{}
		for i := 0; i < len(kv); i += 2 {
			out.Labels = append(out.Labels, &labelpb.Label{Name: kv[i], Value: kv[i+1]})
		}
		return out
	}
	announce := func(component string, sets ...*labelpb.ZLabelSet) storeapi.Info {
		in := &infopb.InfoResponse{ComponentType: component, LabelSets: sets, Store: &infopb.StoreInfo{}}
		for _, s := range sets {
			in.Store.TsdbInfos = append(in.Store.TsdbInfos, &infopb.TSDBInfo{Labels: s})
		}
		b, err := in.MarshalVT()
		require.NoError(t, err)
		c := rawServer(t, b)
		require.NoError(t, c.Refresh(t.Context()))
		return c.Info()
	}
	info := announce("side\xff", set("a", "1", "b", "\xff", "c\xff", "2", "", "3"), set("d", "4"))
	require.Equal(t, "side\uFFFD", info.Component)
	require.Equal(t, []labels.Labels{labels.FromStrings("a", "1"), labels.FromStrings("d", "4")}, info.LabelSets)
	require.Equal(t, "{a=\"1\"}", info.TSDBs[0].Labels.String())
	require.Len(t, info.Warnings, 1)
	require.Contains(t, info.Warnings[0], "ignored")

	info = announce(strings.Repeat("é", 1<<20), set("b", "\xff"), set("d", "4"))
	require.Less(t, len(info.Component), 100)
	require.True(t, utf8.ValidString(info.Component))
	require.Empty(t, info.LabelSets, "the first set may be any now")
	require.True(t, info.TSDBs[0].Labels.IsEmpty())
}

// A series with a label without a name breaks functions of label sets.
func TestSelect_RefusesLabelsWithoutName(t *testing.T) {
	for _, ls := range [][]*labelpb.Label{
		{{Name: "", Value: "x"}, {Name: "a", Value: "b"}},
		{{Name: "a", Value: "b"}, {Name: "", Value: "x"}},
	} {
		b, err := (&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: &storepb.Series{Labels: ls}}}).MarshalVT()
		require.NoError(t, err)
		s := rawServer(t, b).Select(t.Context(), &storeapi.Request{})
		require.False(t, s.Next())
		require.ErrorContains(t, s.Err(), "without a name")
		require.NoError(t, s.Close())
	}
}

// The same holds for results, whose label sets cannot hold values of 16 MiB either.
func TestQuery_RefusesUnusableLabels(t *testing.T) {
	for _, l := range []*labelpb.Label{
		{Name: "", Value: "x"}, {Name: "a\xff", Value: "x"}, {Name: "a", Value: "\xff"}, {Name: "a", Value: strings.Repeat("x", 17<<20)},
	} {
		b, err := l.MarshalVT()
		require.NoError(t, err)
		require.ErrorContains(t, query(t, rawServer(t, field(2, field(1, b)))), "x:1")
	}
}

// An exemplar at the earliest time of an int64 would make the JSON of the answer invalid.
func TestExemplars_LeavesOutOtherTimes(t *testing.T) {
	d := &storepb.ExemplarData{SeriesLabels: &labelpb.ZLabelSet{Labels: []*labelpb.Label{{Name: "a", Value: "b"}}}}
	for _, at := range []int64{math.MinInt64, 9, 10, 20, 21, math.MaxInt64} {
		d.Exemplars = append(d.Exemplars, &storepb.Exemplar{Ts: at})
	}
	b, err := d.MarshalVT()
	require.NoError(t, err)
	r := exemplarRequest()
	r.MinTime, r.MaxTime = 10, 20
	got, ws, err := rawServer(t, field(1, b)).Exemplars(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, ws)
	require.Len(t, got, 1)
	require.Len(t, got[0].Exemplars, 2)
	require.Equal(t, []int64{10, 20}, []int64{got[0].Exemplars[0].Ts, got[0].Exemplars[1].Ts})
}
