package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits, in the virtual time of a bubble, until ok returns true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 20_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("not within 20 s")
}

func batch(t testing.TB, n int, prefix string) *remotewrite.Batch {
	req := prompb.WriteRequest{}
	for i := range n {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: fmt.Sprintf("%s_%d", prefix, i)}},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: 1}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	buf := remotewrite.NewBuffer(len(raw))
	buf.B = append(buf.B, raw...)
	b, err := remotewrite.ScanV1(buf, buf.B)
	require.NoError(t, err)
	return b
}

// node is a peer or the local store: it remembers names, or fails.
type node struct {
	t      testing.TB
	mu     sync.Mutex
	got    map[string]int
	err    error
	block  chan struct{}
	merges bool
	sends  int
	refuse func(name string) bool
	// cannot are the failures of single tenants.
	cannot map[string]error
	// copies are the numbers of the copies, of parts that have one.
	copies map[string]int
}

func (n *node) setTenant(id string, err error) {
	n.mu.Lock()
	n.cannot = map[string]error{id: err}
	n.mu.Unlock()
}

func (n *node) set(err error) { n.mu.Lock(); n.err = err; n.mu.Unlock() }

// take stores series; missing is how many it refuses.
func (n *node) take(tenant string, raw []byte) (missing int) {
	var req prompb.WriteRequest
	require.NoError(n.t, req.Unmarshal(raw))
	if n.got == nil {
		n.got = map[string]int{}
	}
	for _, ts := range req.Timeseries {
		if n.refuse != nil && n.refuse(ts.Labels[0].Value) {
			missing++
			continue
		}
		n.got[tenant+"/"+ts.Labels[0].Value]++
	}
	return missing
}

// number notes which copy of its series a part is.
func (n *node) number(p Part) {
	var req prompb.WriteRequest
	require.NoError(n.t, req.Unmarshal(bytes.Join(p.Regions, nil)))
	if n.copies == nil {
		n.copies = map[string]int{}
	}
	for _, ts := range req.Timeseries {
		n.copies[p.Tenant+"/"+ts.Labels[0].Value] = p.Replica
	}
}

// takePart stores a part, set by set.
func (n *node) takePart(p Part) error {
	var missing []remotewrite.Missing
	all := bytes.Join(p.Regions, nil)
	require.Equal(n.t, p.Blocks != nil, len(p.Blocks) > 0)
	if p.Blocks != nil {
		b, err := remotewrite.DecodeBlocks(bytes.Join(p.Blocks, nil), 1<<30)
		require.NoError(n.t, err)
		whole := []byte{}
		for i := range b.Len() {
			whole = append(whole, b.Raw(i)...)
		}
		require.Equal(n.t, all, whole)
		b.Close()
	}
	if p.Sizes == nil {
		p.Sizes = []int{len(all)}
	}
	for i, size := range p.Sizes {
		if m := n.take(p.Tenant, all[:size]); m > 0 {
			missing = append(missing, remotewrite.Missing{Index: i, Counts: remotewrite.Counts{Samples: m}})
		}
		all = all[size:]
	}
	require.Empty(n.t, all)
	return refused(missing)
}

func refused(missing []remotewrite.Missing) error {
	if missing == nil {
		return nil
	}
	return &remotewrite.WriteError{Kind: remotewrite.Conflict, Err: errors.New("refused"), Stored: &remotewrite.Counts{}, Missing: missing}
}

func (n *node) Send(ctx context.Context, ds []*Delivery) (out [][]error, down error) {
	if n.block != nil {
		select {
		case <-n.block:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sends++
	failed := n.err
	if n.err == nil && ctx.Err() != nil {
		failed = remotewrite.Errorf(remotewrite.Unavailable, "%w", ctx.Err())
	}
	if failed != nil && remotewrite.KindOf(failed) == remotewrite.Unavailable {
		down = failed
	}
	out = make([][]error, len(ds))
	for i, d := range ds {
		out[i] = make([]error, len(d.Parts))
		for j, p := range d.Parts {
			if out[i][j] = failed; failed == nil {
				out[i][j] = n.cannot[p.Tenant]
			}
			if out[i][j] == nil {
				out[i][j] = n.takePart(p)
				n.number(p)
			}
		}
	}
	return out, down
}

func (n *node) Write(_ context.Context, tenant string, b *remotewrite.Batch, series []uint32) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	if series == nil {
		for i := range b.Len() {
			series = append(series, uint32(i))
		}
	}
	var missing []remotewrite.Missing
	for _, i := range series {
		if n.take(tenant, b.Raw(int(i))) > 0 {
			missing = append(missing, remotewrite.Missing{Index: int(i), Counts: remotewrite.Counts{Samples: 1}})
		}
	}
	return refused(missing)
}

func (n *node) Form() Form   { return Form{Merged: n.merges, Blocks: n.merges} }
func (n *node) Close() error { return nil }

type cluster struct {
	*Writer
	nodes map[string]*node
}

func newCluster(t *testing.T, self string, replicas, size int, change func(*Config)) *cluster {
	c := &cluster{nodes: map[string]*node{}}
	spec := hashring.Spec{Algorithm: hashring.Ketama}
	for i := range size {
		a := fmt.Sprintf("n%d:1", i)
		spec.Endpoints = append(spec.Endpoints, hashring.Endpoint{Address: a})
		c.nodes[a] = &node{t: t, merges: i%2 == 0}
	}
	cfg := Config{
		Replicas: replicas, Timeout: time.Second, MaxBackoff: time.Second,
		QueueBytes: 1 << 20, MessageBytes: 1 << 20, Lanes: 2, ReplayInterval: 20 * time.Millisecond,
		Dial: func(a string) (Node, error) { return c.nodes[a], nil },
	}
	if self != "" {
		cfg.Local = c.nodes[self]
	}
	if change != nil {
		change(&cfg)
	}
	c.Writer = NewWriter(cfg, slog.New(slog.DiscardHandler), nil)
	rings, err := hashring.New([]hashring.Spec{spec}, hashring.Options{Algorithm: hashring.Ketama, Replicas: replicas})
	require.NoError(t, err)
	require.ErrorIs(t, c.Write(t.Context(), nil, 0), errNoRing)
	require.NoError(t, c.SetRings(t.Context(), rings, self))
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func (c *cluster) copies(key string) (n int) {
	for _, x := range c.nodes {
		x.mu.Lock()
		n += x.got[key]
		x.mu.Unlock()
	}
	return n
}

func TestWriter_SendsEachSeriesToItsReplicas(t *testing.T) {
	for _, self := range []string{"n0:1", ""} {
		for _, size := range []int{1, 3, 6} {
			replicas := min(3, size)
			t.Run(fmt.Sprintf("self=%s/size=%d", self, size), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, self, replicas, size, nil)
					a, b := batch(t, 300, "a"), batch(t, 50, "b")
					require.NoError(t, c.Write(t.Context(), []Request{{"t1", a}, {"t2", b}}, 0))
					a.Close()
					b.Close()
					require.NoError(t, c.Close())
					for i := range 300 {
						require.Equal(t, replicas, c.copies(fmt.Sprintf("t1/a_%d", i)))
					}
					for i := range 50 {
						require.Equal(t, replicas, c.copies(fmt.Sprintf("t2/b_%d", i)))
					}
				})
			})
		}
	}
}

func TestWriter_SendsOneCopyWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, nil)
		b := batch(t, 100, "a")
		defer b.Close()
		require.NoError(t, c.Write(t.Context(), []Request{{"t", b}}, 2))
		require.NoError(t, c.Close())
		for i := range 100 {
			require.Equal(t, 1, c.copies(fmt.Sprintf("t/a_%d", i)))
		}
		err := newCluster(t, "n0:1", 3, 3, nil).Write(t.Context(), []Request{{"t", b}}, 4)
		require.Equal(t, remotewrite.Invalid, remotewrite.KindOf(err))
	})
}

func TestWriter_AcknowledgesWithOneNodeDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) { cfg.HintsDir, cfg.HintsBytes = t.TempDir(), 1<<20 })
		c.nodes["n1:1"].set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		for i := range 50 {
			b := batch(t, 20, fmt.Sprintf("x%d", i))
			require.NoError(t, c.Write(t.Context(), []Request{{"t", b}}, 0))
			b.Close()
		}
		eventually(t, func() bool { return c.peers["n1:1"].hints.bytes() > 0 })
		for i := range 50 {
			require.Equal(t, 2, c.copies(fmt.Sprintf("t/x%d_3", i)))
		}
		n1 := c.nodes["n1:1"]
		n1.mu.Lock()
		require.Less(t, n1.sends, 50, "the breaker keeps most writes away from the dead peer")
		n1.mu.Unlock()
		// The peer is back and gets its hints.
		n1.set(nil)
		eventually(t, func() bool { return c.peers["n1:1"].hints.bytes() == 0 })
		for i := range 50 {
			require.Equal(t, 3, c.copies(fmt.Sprintf("t/x%d_3", i)))
		}
	})
}

func TestWriter_FailsWithTwoNodesDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, nil)
		c.nodes["n1:1"].set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		c.nodes["n2:1"].set(remotewrite.Errorf(remotewrite.Conflict, "out of order"))
		b := batch(t, 20, "x")
		defer b.Close()
		err := c.Write(t.Context(), []Request{{"t", b}}, 0)
		require.Equal(t, remotewrite.Unavailable, remotewrite.KindOf(err))
		c.nodes["n0:1"].set(remotewrite.Errorf(remotewrite.Conflict, "out of order"))
		err = c.Write(t.Context(), []Request{{"t", b}}, 0)
		require.Equal(t, remotewrite.Conflict, remotewrite.KindOf(err))
		require.ErrorContains(t, err, "out of order")
	})
}

func TestWriter_DoesNotWaitForHangingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) { cfg.QueueBytes, cfg.Timeout = 10_000, 300*time.Millisecond })
		c.nodes["n2:1"].block = make(chan struct{})
		for i := range 100 {
			b := batch(t, 20, fmt.Sprintf("x%d", i))
			require.NoError(t, c.Write(t.Context(), []Request{{"t", b}}, 0))
			b.Close()
		}
		for _, p := range c.Peers() {
			require.LessOrEqual(t, p.WaitingBytes, int64(10_000))
		}
		require.Positive(t, c.held.Load())
		close(c.nodes["n2:1"].block)
		require.NoError(t, c.Close())
		require.Zero(t, c.held.Load(), "all arenas are given back")
	})
}

func TestSetRings_KeepsPeersThatStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 1, 3, nil)
		specs := []hashring.Spec{{Algorithm: hashring.Ketama, Endpoints: []hashring.Endpoint{{Address: "n0:1"}, {Address: "n1:1"}}}}
		before := c.peers["n1:1"]
		rings, err := hashring.New(specs, hashring.Options{Replicas: 1})
		require.NoError(t, err)
		require.NoError(t, c.SetRings(t.Context(), rings, "n0:1"))
		require.Same(t, before, c.peers["n1:1"])
		require.Len(t, c.peers, 1)
	})
}

// countedNode counts the connections that are open.
type countedNode struct {
	*node
	open *int
}

func (n countedNode) Close() error { *n.open--; return nil }

// A ring that is refused because of one peer leaves no connection to the others: it is loaded
// again and again.
func TestSetRings_ClosesPeersOfARefusedRing(t *testing.T) {
	open := 0
	cfg := Config{
		Replicas: 1, Lanes: 1,
		Dial: func(address string) (Node, error) {
			if open == 3 {
				return nil, fmt.Errorf("no client for %s", address)
			}
			open++
			return countedNode{&node{t: t}, &open}, nil
		},
	}
	w := NewWriter(cfg, slog.New(slog.DiscardHandler), nil)
	var spec hashring.Spec
	for i := range 4 {
		spec.Endpoints = append(spec.Endpoints, hashring.Endpoint{Address: fmt.Sprintf("n%d:1", i)})
	}
	rings, err := hashring.New([]hashring.Spec{spec}, hashring.Options{Algorithm: hashring.Ketama, Replicas: 1})
	require.NoError(t, err)
	require.ErrorContains(t, w.SetRings(t.Context(), rings, ""), "no client for")
	require.Zero(t, open)
	require.NoError(t, w.Close())
}

func TestQuorum_IsMajorityButOneOfTwo(t *testing.T) {
	for n, want := range []int{1, 1, 1, 2, 3, 3, 4, 4} {
		require.Equal(t, want, quorumOf(n), "%d replicas", n)
	}
}

// refuseEvery makes the node store everything but every k-th series, and say so.
func (n *node) refuseEvery(k int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = func(name string) bool {
		i, err := strconv.Atoi(name[strings.LastIndexByte(name, '_')+1:])
		return err == nil && i%k == 0
	}
}

// The error of a write counts what a quorum has stored, whatever the ring looks
// like and whichever nodes are down, as long as a quorum answers.
func TestWriter_CountsItemsStoredByQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size := 3; size < 9; size++ {
			c := newCluster(t, "n0:1", 3, size, nil)
			b := batch(t, 200, "m")
			defer b.Close()
			for _, n := range c.nodes {
				n.refuseEvery(10)
			}
			stored := func(want int) {
				t.Helper()
				err := c.Write(t.Context(), []Request{{"t", b}}, 0)
				require.Error(t, err)
				require.Equal(t, want, remotewrite.StoredOf(err, b.Counts()).Samples)
			}
			stored(180)
			// One node stores more than the others: that is no quorum.
			c.nodes["n1:1"].refuseEvery(20)
			stored(180)
			c.nodes["n2:1"].set(remotewrite.Errorf(remotewrite.Unavailable, "down"))
			if size == 3 { // n0 and n1 are the quorum
				stored(180)
			}
			c.nodes["n0:1"].set(remotewrite.Errorf(remotewrite.Other, "full"))
			if size == 3 {
				stored(0)
			}
		}
	})
}

func TestMissing(t *testing.T) {
	of := func(n ...int) (out []remotewrite.Counts) {
		for _, x := range n {
			out = append(out, remotewrite.Counts{Samples: x, Histograms: 10 - x})
		}
		return out
	}
	whole := remotewrite.Counts{Samples: 50}
	require.Equal(t, remotewrite.Counts{}, missing(of(3, 4), 0, whole))
	require.Equal(t, remotewrite.Counts{Samples: 3, Histograms: 5}, missing(of(4, 3, 5), 1, whole))
	require.Equal(t, remotewrite.Counts{Samples: 4, Histograms: 6}, missing(of(4, 3, 5), 2, whole))
	require.Equal(t, whole, missing(of(4), 2, whole))
}

// A peer that does not answer gets no more writes before its messages time out;
// they become hints, which it gets when it answers.
func TestQueue_FailsDeliveriesToSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) {
			cfg.Timeout, cfg.Lanes, cfg.HintsDir, cfg.HintsBytes = 10*time.Second, 1, t.TempDir(), 1<<20
		})
		slow := c.nodes["n2:1"]
		slow.block = make(chan struct{})
		send := func(name string) {
			b := batch(t, 10, name)
			defer b.Close()
			require.NoError(t, c.Write(t.Context(), []Request{{"t", b}}, 0))
		}
		state := func() (s PeerState) {
			for _, p := range c.Peers() {
				if p.Address == "n2:1" {
					s = p
				}
			}
			return s
		}
		send("first")
		q := c.peers["n2:1"]
		eventually(t, func() bool { return q.lanes[0].stuck(time.Now()) > 0 })
		send("waits") // nothing is wrong yet
		require.Zero(t, state().HintBytes)
		waiting := state().WaitingBytes
		q.lanes[0].mu.Lock()
		q.lanes[0].since = q.lanes[0].since.Add(-6 * time.Second)
		q.lanes[0].mu.Unlock()
		send("hint")
		require.Equal(t, "slow", state().State)
		require.Positive(t, state().HintBytes)
		require.Equal(t, waiting, state().WaitingBytes)
		close(slow.block)
		eventually(t, func() bool { return c.copies("t/hint_3") == 3 })
		require.Equal(t, 3, c.copies("t/first_3"))
		require.Equal(t, 3, c.copies("t/waits_3"))
		send("again")
		require.Equal(t, "ok", state().State)
	})
}

func (c *cluster) send(t *testing.T, tenant, name string, n int) {
	t.Helper()
	b := batch(t, n, name)
	defer b.Close()
	require.NoError(t, c.Write(t.Context(), []Request{{tenant, b}}, 0))
}

func (c *cluster) eventually(t *testing.T, copies int, key string) {
	t.Helper()
	eventually(t, func() bool { return c.copies(key) == copies })
}

// A peer that cannot store one tenant gets the writes and hints of all others, and
// the hints of that tenant as soon as it can store it.
func TestReplay_RequeuesTenantThatPeerCannotStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) { cfg.HintsDir, cfg.HintsBytes = t.TempDir(), 1<<20 })
		n1, q := c.nodes["n1:1"], c.peers["n1:1"]
		n1.setTenant("bad", remotewrite.Errorf(remotewrite.Unavailable, "its directory cannot be read"))
		for i := range 20 {
			c.send(t, "bad", fmt.Sprintf("b%d", i), 5)
			c.send(t, "good", fmt.Sprintf("g%d", i), 5)
			c.eventually(t, 3, fmt.Sprintf("good/g%d_3", i))
		}
		require.Positive(t, q.hints.bytes())
		eventually(t, func() bool { return q.state().State == "ok" })
		n1.set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		c.send(t, "bad", "while-down", 5)
		c.send(t, "good", "while-down", 5)
		n1.set(nil)
		c.eventually(t, 3, "good/while-down_3")
		require.Positive(t, q.hints.bytes())
		n1.setTenant("", nil)
		c.eventually(t, 3, "bad/while-down_3")
		for i := range 20 {
			c.eventually(t, 3, fmt.Sprintf("bad/b%d_3", i))
		}
		eventually(t, func() bool { return q.hints.bytes() == 0 })
	})
}

// A peer that fails in the middle of a segment gets the segment again from its
// beginning; no hint of it is requeued as well.
func TestReplay_RequeuesOnlyAfterWholeSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) {
			cfg.HintsDir, cfg.HintsBytes, cfg.ReplayInterval = t.TempDir(), 1<<20, time.Hour
		})
		n1, q := c.nodes["n1:1"], c.peers["n1:1"]
		for _, tenant := range []string{"bad", "down"} {
			_, err := q.hints.append(Part{Tenant: tenant, Replica: 1, Regions: [][]byte{batchBytes(t)}})
			require.NoError(t, err)
		}
		n1.mu.Lock()
		n1.cannot = map[string]error{
			"bad": remotewrite.Errorf(remotewrite.Unavailable, "cannot be opened"), "down": remotewrite.Errorf(remotewrite.NotReady, "starting"),
		}
		n1.mu.Unlock()
		before := q.hints.bytes()
		for range 3 {
			_, err := q.replaySegments(t.Context(), make(chan struct{}))
			require.Error(t, err)
			require.Equal(t, before, q.hints.bytes())
		}
		n1.setTenant("bad", remotewrite.Errorf(remotewrite.Unavailable, "cannot be opened"))
		r, err := q.replaySegments(t.Context(), make(chan struct{}))
		require.NoError(t, err)
		require.Equal(t, 1, r.requeued)
		require.Less(t, q.hints.bytes(), before)
		require.Positive(t, q.hints.bytes())
	})
}

// A peer's rejection because of a tenant limit is final; the hint is not retried
// and does not delay others.
func TestReplay_DropsHintsAboveTenantLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) { cfg.HintsDir, cfg.HintsBytes = t.TempDir(), 1<<20 })
		n1, q := c.nodes["n1:1"], c.peers["n1:1"]
		n1.set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		c.send(t, "large", "l", 5)
		c.send(t, "small", "s", 5)
		eventually(t, func() bool { return q.hints.bytes() > 0 })
		n1.setTenant("large", remotewrite.Errorf(remotewrite.LimitExceeded, "at its limit"))
		n1.set(nil)
		c.eventually(t, 3, "small/s_3")
		eventually(t, func() bool { return q.hints.bytes() == 0 })
		require.Equal(t, 2, c.copies("large/l_3"))
	})
}

// A peer that took several copies in one part, and does not after its restart, gets
// hints with the right number of each copy.
func TestReplay_SplitsCopiesForOtherPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := newCluster(t, "", 3, 6, nil) // n1 takes single copies from the start
		want.send(t, "t", "x", 300)
		require.NoError(t, want.Close())
		c := newCluster(t, "", 3, 6, func(cfg *Config) { cfg.HintsDir, cfg.HintsBytes = t.TempDir(), 1<<20 })
		n1 := c.nodes["n1:1"]
		n1.merges = true
		n1.set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		c.send(t, "t", "x", 300)
		eventually(t, func() bool { return c.peers["n1:1"].hints.bytes() > 0 })
		n1.set(nil)
		eventually(t, func() bool { return c.peers["n1:1"].hints.bytes() == 0 })
		require.NoError(t, c.Close())
		numbers := map[int]int{}
		for _, n := range n1.copies {
			numbers[n]++
		}
		require.Len(t, numbers, 3, "every number occurs")
		require.Equal(t, want.nodes["n1:1"].copies, n1.copies)
	})
}

func TestPart_SplitsByReplica(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	for range 300 {
		p, want := Part{Tenant: "t"}, map[int][]byte{}
		for range 1 + rnd.Intn(20) {
			series := make([]byte, rnd.Intn(9))
			rnd.Read(series)
			n := 1 + rnd.Intn(3)
			p.Sizes, p.replicas = append(p.Sizes, len(series)), append(p.replicas, n)
			want[n] = append(want[n], series...)
			if last := len(p.Regions) - 1; last < 0 || rnd.Intn(2) == 0 {
				p.Regions = append(p.Regions, series)
			} else {
				p.Regions[last] = append(p.Regions[last], series...)
			}
		}
		p.Regions = slices.DeleteFunc(p.Regions, func(r []byte) bool { return len(r) == 0 })
		got := map[int][]byte{}
		for _, one := range p.byReplica() {
			require.NotContains(t, got, one.Replica)
			got[one.Replica] = bytes.Join(one.Regions, nil)
		}
		require.Len(t, got, len(want))
		for n := range want {
			require.Equal(t, string(want[n]), string(got[n]))
		}
	}
}

func TestPart_CutsAtSeries(t *testing.T) {
	rnd := rand.New(rand.NewSource(4))
	for range 300 {
		b := batch(t, 1+rnd.Intn(40), strings.Repeat("x", rnd.Intn(50)))
		p, limit, largest := Part{Tenant: "t", Replica: 2, Regions: [][]byte{nil}}, 1+rnd.Intn(200), 0
		for i := range b.Len() {
			largest = max(largest, len(b.Raw(i)))
			if last := len(p.Regions) - 1; rnd.Intn(3) > 0 {
				p.Regions[last] = append(p.Regions[last], b.Raw(i)...)
			} else {
				p.Regions = append(p.Regions, append([]byte(nil), b.Raw(i)...))
			}
		}
		var got []byte
		for _, one := range p.cut(limit) {
			piece := bytes.Join(one.Regions, nil)
			require.NotEmpty(t, piece)
			require.Equal(t, "t 2", fmt.Sprint(one.Tenant, " ", one.Replica))
			require.LessOrEqual(t, len(piece), max(limit, largest))
			require.NoError(t, new(prompb.WriteRequest).Unmarshal(piece), "whole series")
			got = append(got, piece...)
		}
		require.Equal(t, bytes.Join(p.Regions, nil), got)
		b.Close()
	}
	require.Len(t, Part{Regions: [][]byte{bytes.Repeat([]byte{0xff}, 100)}}.cut(10), 1, "what is malformed stays whole")
}

// A write above the bound of the queue is sent when the queue is empty, and becomes
// hints when the peer is down.
func TestQueue_TakesWriteAboveItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) {
			cfg.QueueBytes, cfg.HintsDir, cfg.HintsBytes = 10, t.TempDir(), 1<<30
			cfg.Timeout = time.Minute // so much takes a while
		})
		for i := range 10 {
			c.send(t, "t", fmt.Sprintf("x%d", i), 100)
			c.eventually(t, 3, fmt.Sprintf("t/x%d_99", i))
		}
		n1 := c.nodes["n1:1"]
		n1.set(remotewrite.Errorf(remotewrite.Unavailable, "gone"))
		c.send(t, "t", strings.Repeat("y", 1000), 6000)
		eventually(t, func() bool { return c.peers["n1:1"].hints.bytes() > 0 })
		n1.set(nil)
		c.eventually(t, 3, "t/"+strings.Repeat("y", 1000)+"_5999")
		c.eventually(t, 3, "t/"+strings.Repeat("y", 1000)+"_0")
	})
}

// The hints of peers that are not in the ring are deleted when the ring is loaded.
func TestWriter_DeletesHintsOfUnknownMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, peer := range []string{"n1:1", "gone:1"} {
			l, err := openHintLog(vfs.OS(), dir, peer, 1<<20)
			require.NoError(t, err)
			_, err = l.append(Part{Tenant: "t", Replica: 1, Regions: [][]byte{batchBytes(t)}})
			require.NoError(t, err)
			require.NoError(t, l.close())
		}
		c := newCluster(t, "n0:1", 3, 3, func(cfg *Config) { cfg.HintsDir, cfg.HintsBytes = dir, 1<<20 })
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			peer, _, _ := parseHintName(e.Name())
			require.NotEqual(t, "gone:1", peer)
		}
		c.eventually(t, 1, "t/h_0")
	})
}

func batchBytes(t *testing.T) []byte {
	b := batch(t, 1, "h")
	defer b.Close()
	return append([]byte(nil), b.Raw(0)...)
}
