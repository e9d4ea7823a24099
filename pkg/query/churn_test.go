package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// comesAndGoes is a store on one address that stops and starts again.
type comesAndGoes struct {
	store *storetest.Fake
	addr  string
	srv   *grpc.Server
	done  chan struct{}
}

func (c *comesAndGoes) start(t *testing.T) {
	var lis net.Listener
	require.Eventually(t, func() bool {
		var err error
		lis, err = net.Listen("tcp", c.addr)
		return err == nil
	}, time.Minute, time.Millisecond)
	c.addr = lis.Addr().String()
	srv, done := grpc.NewServer(storerpc.ServerOptions()...), make(chan struct{})
	c.srv, c.done = srv, done
	storerpc.RegisterStore(srv, c.store, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: c.store.Info, Services: storerpc.Services{Store: true}})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
}

func (c *comesAndGoes) stop() {
	c.srv.Stop()
	<-c.done
}

// churn is the known data and the totals of a run.
type churn struct {
	q                                   *process
	stores, series                      int
	complete, marked, failed, cancelled atomic.Int64
}

// Queries with cancellations while stores come and go: each answer is complete and
// right, or says that it is not complete and has nothing wrong, or is an error.
// Nothing is left behind.
func TestChurn_NoAnswerIsWrongWithoutAWarning(t *testing.T) { runChurn(t, 800) }

// TestSoakChurn does the same with 10,000 queries and more, as long as
// HINDSIGHT_SOAK_MINUTES say.
func TestSoakChurn(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("HINDSIGHT_SOAK_MINUTES"))
	if err != nil {
		t.Skip("HINDSIGHT_SOAK_MINUTES is not set")
	}
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); ; {
		runChurn(t, 10_000)
		if time.Now().After(end) {
			return
		}
	}
}

// runChurn asks n queries.
func runChurn(t *testing.T, n int) {
	c := &churn{stores: 4, series: 20}
	var stores []*comesAndGoes
	var args []string
	for i := range c.stores {
		data := storetest.Data{External: labels.FromStrings("store", fmt.Sprint(i))}
		for j := range c.series {
			samples := storetest.Floats(0, 1000, 60)
			for k := range samples {
				samples[k].V = float64(1 + i*c.series + j)
			}
			data.Series = append(data.Series, storetest.Series{Labels: labels.FromStrings("__name__", "m", "j", fmt.Sprint(j)), Samples: samples})
		}
		s := &comesAndGoes{store: storetest.NewFake(t, data), addr: "127.0.0.1:0"}
		s.start(t)
		stores = append(stores, s)
		args = append(args, "--endpoint="+s.addr)
	}
	c.q = startQuerier(t, append(args, "--query.max-concurrent=4", "--query.max-memory=64MB", "--query.timeout=20s")...)
	c.queries(t, 50, 0) // connections and caches
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	stop := make(chan struct{})
	var coming sync.WaitGroup
	coming.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for {
			s := stores[1+r.IntN(len(stores)-1)] // one stays
			s.stop()
			pause(stop, time.Duration(r.IntN(30))*time.Millisecond)
			s.start(t)
			if pause(stop, time.Duration(r.IntN(400))*time.Millisecond) {
				return
			}
		}
	})
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() { c.queries(t, n/8, uint64(w+1)) })
	}
	workers.Wait()
	close(stop)
	coming.Wait()
	t.Logf("%d complete, %d marked, %d failed, %d cancelled", c.complete.Load(), c.marked.Load(), c.failed.Load(), c.cancelled.Load())
	for _, kind := range []*atomic.Int64{&c.complete, &c.marked, &c.cancelled} {
		require.Positive(t, kind.Load(), "the run had answers of each kind")
	}

	http.DefaultClient.CloseIdleConnections()
	require.Eventually(t, func() bool { return len(c.q.running("any")) == 0 }, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		c.q.q.engine.budget.mtx.Lock()
		defer c.q.q.engine.budget.mtx.Unlock()
		return c.q.q.engine.budget.used == 0
	}, time.Minute, 5*time.Millisecond)
	requireEmpty(t, c.q.q.engine.budget)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<20), "memory is free again")
	for _, s := range stores {
		s.stop() // TestMain checks that no goroutine is left
	}
}

// pause reports whether stop was closed meanwhile.
func pause(stop chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}

func (c *churn) queries(t *testing.T, n int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	for range n {
		cancelAfter := time.Duration(0)
		if seed > 0 && r.IntN(4) == 0 {
			cancelAfter = time.Duration(r.IntN(4000)) * time.Microsecond
		}
		c.one(t, r.IntN(6), r.IntN(c.stores), cancelAfter)
	}
}

// one asks a query of the given kind, which may concern one store only, and checks
// its answer.
func (c *churn) one(t *testing.T, kind, store int, cancelAfter time.Duration) {
	ctx := t.Context()
	if cancelAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cancelAfter)
		defer cancel()
	}
	total := c.stores * c.series
	path, form := "/api/v1/query", url.Values{"time": {"59"}}
	var all int // entries of the complete answer; 0 means one value
	var most float64
	switch kind {
	case 0:
		form.Set("query", "m")
		all = total
	case 1:
		form.Set("query", fmt.Sprintf(`last_over_time(m{store="%d"}[1m])`, store))
		all = c.series
	case 2:
		form.Set("query", "sum(max_over_time(m[30s]))")
		most = float64(total*(total+1)) / 2
	case 3:
		form.Set("query", "count(m) + count(rate(m[1m])) * 0")
		most = float64(total)
	case 4:
		path, form = "/api/v1/series", url.Values{"match[]": {"m"}}
		all = total
	case 5:
		path, form = "/api/v1/query", url.Values{"query": {"sum by (store) (count_over_time(m[10m]))"}, "time": {"59"}}
		all = c.stores
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.q.url+path+"?"+form.Encode(), nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.cancelled.Add(1)
		return
	}
	defer resp.Body.Close()
	var a struct {
		Warnings []string        `json:"warnings"`
		Data     json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		c.cancelled.Add(1)
		return
	}
	if resp.StatusCode != http.StatusOK {
		c.failed.Add(1)
		return
	}
	marked := len(a.Warnings) > 0
	if marked {
		c.marked.Add(1)
	} else {
		c.complete.Add(1)
	}
	c.check(t, a.Data, marked, all, most)
}

// check compares an answer with the data.
func (c *churn) check(t *testing.T, data json.RawMessage, marked bool, all int, most float64) {
	var entries []json.RawMessage
	var result struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		} `json:"result"`
	}
	if json.Unmarshal(data, &entries) != nil {
		if err := json.Unmarshal(data, &result); err != nil {
			t.Errorf("%s: %v", data, err)
			return
		}
		entries = make([]json.RawMessage, len(result.Result))
	}
	sum := 0.0
	for _, r := range result.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		i, errI := strconv.Atoi(r.Metric["store"])
		j, errJ := strconv.Atoi(r.Metric["j"])
		switch {
		case err != nil:
			t.Errorf("%v: %v", r, err)
		case errI == nil && errJ == nil && v != float64(1+i*c.series+j):
			t.Errorf("%v has the value %v", r.Metric, v)
		case errI == nil && errJ != nil && v != float64(60*c.series) && !marked:
			t.Errorf("%v has the value %v without a warning", r.Metric, v)
		}
		sum += v
	}
	switch {
	case all == 0 && (sum > most || sum != most && !marked):
		t.Errorf("value %v, want %v, marked %v", sum, most, marked)
	case all > 0 && (len(entries) > all || len(entries) != all && !marked):
		t.Errorf("%d entries, want %d, marked %v", len(entries), all, marked)
	}
}
