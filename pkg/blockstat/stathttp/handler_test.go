package stathttp

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// ask returns the status and the data of an answer.
func ask(t *testing.T, h *Handler, query string) (int, answer, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/blocks/cardinality?"+query, nil))
	var out struct {
		Data  answer
		Error string
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), w.Body.String())
	return w.Code, out.Data, out.Error
}

func TestHandler_AnswersForOneBlockAndForTheNewestOfEachSource(t *testing.T) {
	b := bucket.NewMemory()
	blocktest.Fill(t, b, `
block old range=0h..2h labels={cluster="eu"}
  up{job="a"} 1h..1h/1m:1+0
block new range=2h..4h labels={cluster="eu"}
  up{job="a"} 3h..3h/1m:1+0
  up{job="b"} 3h..3h/1m:1+0
block other range=0h..2h labels={cluster="us"}
  down{job="a"} 1h..1h/1m:1+0
block gone range=4h..6h labels={cluster="us"}
  gone{job="a"} 5h..5h/1m:1+0
mark gone deletion at=7h
`)
	v, err := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.DiscardHandler)}).Poll(t.Context())
	require.NoError(t, err)
	h := New(b, func() *blocklist.View { return v })
	code, one, _ := ask(t, h, "limit=1&id="+blocktest.ID("new").String())
	require.Equal(t, 200, code)
	require.Equal(t, []ulid.ULID{blocktest.ID("new")}, one.Blocks)
	require.Positive(t, one.IndexBytes)
	series := func(a answer) map[string]uint64 {
		out := map[string]uint64{}
		for _, r := range a.Rows {
			out[r.By+" "+r.Name] = r.Series
		}
		return out
	}
	require.Subset(t, series(one), map[string]uint64{"total ": 2, "metric up": 2, "label job": 2})
	code, all, _ := ask(t, h, "")
	require.Equal(t, 200, code)
	require.Equal(t, []ulid.ULID{blocktest.ID("new"), blocktest.ID("other")}, all.Blocks)
	require.Equal(t, 2, all.Sources)
	require.Zero(t, all.Omitted)
	require.Subset(t, series(all), map[string]uint64{"total ": 3, "metric up": 2, "metric down": 1, "label_value job=a": 2})

	// The second answer needs no bucket.
	h.bkt = bucket.NewMemory()
	code, _, _ = ask(t, h, "limit=1&id="+blocktest.ID("new").String())
	require.Equal(t, 200, code)
	code, all, _ = ask(t, h, "limit=3")
	require.Equal(t, 200, code)
	require.Equal(t, 2, all.Unreadable)
	require.NotEmpty(t, all.Error)
	code, _, text := ask(t, h, "limit=2&id="+blocktest.ID("new").String())
	require.Equal(t, 500, code)
	require.NotEmpty(t, text)
	for query, want := range map[string]int{
		"id=x": 404, "id=" + blocktest.ID("unknown").String(): 404, "limit=0": 400, "limit=1001": 400, "limit=1x": 400,
	} {
		code, _, text := ask(t, h, query)
		require.Equal(t, want, code, query)
		require.NotEmpty(t, text)
	}
}

// The newest block of the only source is also asked for by its id.
func TestHandler_TellsABlockFromTheNewestOfOneSource(t *testing.T) {
	b := bucket.NewMemory()
	blocktest.Fill(t, b, `
block a range=0h..2h labels={cluster="eu"}
  up{job="a"} 1h..1h/1m:1+0
`)
	v, err := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.DiscardHandler)}).Poll(t.Context())
	require.NoError(t, err)
	h := New(b, func() *blocklist.View { return v })
	_, one, _ := ask(t, h, "id="+blocktest.ID("a").String())
	_, newest, _ := ask(t, h, "")
	require.Equal(t, []int{0, 1}, []int{one.Sources, newest.Sources})
}

// The handler refuses blocks that are too large before it asks the bucket, and leaves out and
// counts the rows that are too many.
func TestHandler_BoundsWhatItReads(t *testing.T) {
	v := &blocklist.View{Metas: map[ulid.ULID]*block.Meta{}, Sizes: map[ulid.ULID]map[string]int64{}}
	add := func(i int, size int64) ulid.ULID {
		m := &block.Meta{}
		m.ULID, m.MaxTime = ulid.MustNew(uint64(i), nil), int64(i)
		m.Thanos.Labels = map[string]string{"source": fmt.Sprint(i)}
		v.Metas[m.ULID], v.Sizes[m.ULID] = m, map[string]int64{block.IndexFile: size}
		return m.ULID
	}
	for i := range maxBlocks + 7 {
		add(i+1, 1)
	}
	large := add(maxBlocks+8, maxIndexBytes+1)
	got := newest(v)
	require.Len(t, got.Blocks, maxBlocks)
	require.Equal(t, 8, got.Omitted)
	require.NotContains(t, got.Blocks, large)
	h := New(bucket.NewMemory(), func() *blocklist.View { return v })
	code, _, text := ask(t, h, "id="+large.String())
	require.Equal(t, 422, code)
	require.Contains(t, text, "tools block analyze "+large.String())
	code, _, _ = ask(t, New(bucket.NewMemory(), func() *blocklist.View { return nil }), "")
	require.Equal(t, 503, code)
}
