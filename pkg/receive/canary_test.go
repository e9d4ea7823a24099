package receive

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Buffers are pooled and shared between senders and peers. Many tenants write
// series that carry their own name, with requests cancelled at random; no byte
// of one may ever show up in another. Run with -race, and with the build tag
// hindsight_poison, which overwrites released buffers.
func TestTenants_BytesNeverMix(t *testing.T) {
	nodes := cluster(t, 4, 3, nil)
	const tenants, rounds = 30, 15
	var wg sync.WaitGroup
	for i := range tenants {
		wg.Go(func() {
			rnd := rand.New(rand.NewSource(int64(i)))
			id := fmt.Sprintf("tenant-%02d", i)
			start := time.Now().UnixMilli()
			for round := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				if rnd.Intn(3) == 0 {
					time.AfterFunc(time.Duration(rnd.Intn(3000))*time.Microsecond, cancel)
				}
				body := canaryBody(t, id, start+int64(round), 1+rnd.Intn(60))
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, nodes[rnd.Intn(4)].url("/api/v1/receive"), bytes.NewReader(body))
				require.NoError(t, err)
				req.Header.Set("THANOS-TENANT", id)
				if resp, err := http.DefaultClient.Do(req); err == nil {
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	time.Sleep(100 * time.Millisecond)
	found := 0
	for _, n := range nodes {
		found += checkCanaries(t, n.Store())
	}
	require.Greater(t, found, tenants)
}

func canaryBody(t *testing.T, id string, ts int64, n int) []byte {
	req := &prompb.WriteRequest{}
	for i := range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: fmt.Sprintf("m%d", i)},
				{Name: "canary", Value: id + strings.Repeat("-"+id, i%7)},
			},
			Samples: []prompb.Sample{{Timestamp: ts, Value: 1}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, raw)
}

func checkCanaries(t *testing.T, s storeapi.Store) (found int) {
	set := s.Select(t.Context(), &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*")},
	})
	defer set.Close()
	for set.Next() {
		ls := set.At().Labels
		id, canary := ls.Get("tenant_id"), ls.Get("canary")
		require.Equal(t, id, strings.Split(canary, "-"+id)[0], ls.String())
		require.Empty(t, strings.ReplaceAll(strings.TrimPrefix(canary, id), "-"+id, ""), ls.String())
		require.Regexp(t, `^m\d+$`, ls.Get("__name__"))
		require.Equal(t, 4, ls.Len(), ls.String())
		found++
	}
	require.NoError(t, set.Err())
	return found
}
