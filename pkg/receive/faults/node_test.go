// Package faults kills, stops and restarts receive nodes, real processes, under
// load, with a client that remembers what was acknowledged.
package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/receive"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

const (
	nodeVariable  = "HINDSIGHT_FAULTS_NODE"
	blockVariable = "HINDSIGHT_FAULTS_BLOCK" // duration of blocks, when not the default
	copyVariable  = "HINDSIGHT_FAULTS_COPIES"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeVariable); spec != "" {
		if err := runNode(strings.Split(spec, ",")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runNode is one node: gRPC address, write address, directory, ring file.
func runNode(spec []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := receive.DefaultConfig()
	cfg.RemoteWriteAddress, cfg.TSDB.Path, cfg.HashringsFile = spec[1], spec[2], spec[3]
	cfg.ReplicationFactor = 3
	if n, err := strconv.Atoi(os.Getenv(copyVariable)); err == nil {
		cfg.ReplicationFactor = n
	}
	cfg.ForwardTimeout = flags.Duration(2 * time.Second)
	level := slog.LevelError
	if width := os.Getenv(blockVariable); width != "" {
		level = slog.LevelInfo
		if err := errors.Join(cfg.TSDB.MinBlock.Set(width), cfg.TSDB.MaxBlock.Set(width)); err != nil {
			return err
		}
	}
	lis, err := net.Listen("tcp", spec[0])
	if err != nil {
		return err
	}
	grpcsnappy.Register()
	r, err := receive.New(cfg, receive.Deps{
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		Registerer: prometheus.NewRegistry(), GRPCAddress: spec[0],
	})
	if err != nil {
		return err
	}
	g := grpc.NewServer(storerpc.ServerOptions()...)
	r.RegisterGRPC(g)
	go func() { _ = g.Serve(lis) }()
	defer g.Stop()
	return r.Run(ctx)
}

// node is a process under test.
type node struct {
	t           *testing.T
	grpc, write string
	dir, ring   string
	cmd         *exec.Cmd
}

// freePort finds an unused port of the host.
func freePort(t *testing.T, host string) string {
	lis, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	defer lis.Close()
	return lis.Addr().String()
}

// newNode has a loopback address of its own: a port that was free a moment ago
// on one that all share may be in use when the node listens on it.
func newNode(t *testing.T, ring string) *node {
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.Intn(254), rand.Intn(255), 1+rand.Intn(254))
	n := &node{t: t, grpc: freePort(t, host), dir: t.TempDir(), ring: ring}
	for n.write == "" || n.write == n.grpc {
		n.write = freePort(t, host)
	}
	return n
}

func (n *node) start() {
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), nodeVariable+"="+strings.Join([]string{n.grpc, n.write, n.dir, n.ring}, ","),
		"GORACE=halt_on_error=1") // where the race detector is compiled in, a race fails the test
	n.cmd.Stderr = os.Stderr
	require.NoError(n.t, n.cmd.Start())
}

func (n *node) signal(s syscall.Signal) { require.NoError(n.t, n.cmd.Process.Signal(s)) }

func (n *node) end(s syscall.Signal) {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(s)
	_ = n.cmd.Wait()
	const raceFound = 66 // the exit code of a program that the race detector ended
	require.NotEqual(n.t, raceFound, n.cmd.ProcessState.ExitCode(), "a data race, see the output of the node")
	n.cmd = nil
}

// ready waits until the node takes writes.
func (n *node) ready() {
	require.Eventually(n.t, func() bool {
		code, _ := post(n.t.Context(), n.write, body(n.t, nil))
		return code == 200
	}, time.Minute, 20*time.Millisecond, "node %s", n.write)
}

func writeRing(t *testing.T, path string, nodes []*node) {
	var names []string
	for _, n := range nodes {
		names = append(names, fmt.Sprintf("%q", n.grpc))
	}
	tmp := path + ".new"
	require.NoError(t, os.WriteFile(tmp, []byte(`[{"endpoints": [`+strings.Join(names, ",")+`]}]`), 0o600))
	require.NoError(t, os.Rename(tmp, path))
}

// startNodes starts n nodes; the first inRing of them are in the ring.
func startNodes(t *testing.T, n, inRing int) []*node {
	ring := filepath.Join(t.TempDir(), "ring.json")
	var nodes []*node
	for range n {
		nodes = append(nodes, newNode(t, ring))
	}
	writeRing(t, ring, nodes[:inRing])
	for _, x := range nodes {
		x.start()
		t.Cleanup(func() { x.end(syscall.SIGKILL) })
	}
	for _, x := range nodes {
		x.ready()
	}
	return nodes
}

func post(ctx context.Context, address string, data []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/api/v1/receive", bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("%s", text)
	}
	return 200, nil
}

// point is one sample of the ledger.
type point struct {
	series string
	t      int64
}

func body(t *testing.T, points []point) []byte {
	req := &prompb.WriteRequest{}
	for _, p := range points {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: p.series}},
			Samples: []prompb.Sample{{Timestamp: p.t, Value: float64(p.t % 1000)}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, raw)
}

// client writes as a Prometheus does: in order for each series, again and again
// until the answer is final; it remembers what was acknowledged.
type client struct {
	mu      sync.Mutex
	acked   map[point]bool
	refused []string
	slowest time.Duration
	// pause is between batches. late is how old samples of one batch in three
	// are at most; those are of series of their own, and each time comes once.
	pause, late time.Duration
}

// Load is so many clients that write one batch at a time.
const clients, batchSize = 4, 40

// run writes batches of series until stop is closed. targets returns the write
// addresses.
func (c *client) run(t *testing.T, id int, stop <-chan struct{}, targets func() []string) {
	rnd := rand.New(rand.NewSource(int64(id)))
	for {
		select {
		case <-stop:
			return
		default:
		}
		name, now := "s", time.Now().UnixMilli()
		if c.late > 0 && rnd.Intn(3) == 0 {
			name, now = "s_late", now-rnd.Int63n(c.late.Milliseconds())
		}
		var batch []point
		for i := range batchSize {
			batch = append(batch, point{fmt.Sprintf("%s_%d_%d", name, id, i), now})
		}
		c.send(t, rnd, batch, targets)
		time.Sleep(max(c.pause, 5*time.Millisecond))
	}
}

func (c *client) send(t *testing.T, rnd *rand.Rand, batch []point, targets func() []string) {
	data, began := body(t, batch), time.Now()
	for {
		all := targets()
		code, err := post(t.Context(), all[rnd.Intn(len(all))], data)
		switch {
		case code == 200:
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, p := range batch {
				c.acked[p] = true
			}
			c.slowest = max(c.slowest, time.Since(began))
			return
		case code >= 400 && code < 500 && code != 429:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refused = append(c.refused, fmt.Sprintf("%d: %s", code, err))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// snapshot returns the acknowledged samples.
func (c *client) snapshot() *client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &client{acked: maps.Clone(c.acked)}
}

// stored returns the samples that a node has.
func stored(t *testing.T, n *node) map[point]bool {
	conn, err := grpc.NewClient(n.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	c := storerpc.NewClient(conn, n.grpc)
	require.NoError(t, c.Refresh(t.Context()))
	set := c.Select(t.Context(), &storeapi.Request{
		MinTime: 0, MaxTime: math.MaxInt64,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "s_.*")},
	})
	defer set.Close()
	out := map[point]bool{}
	for set.Next() {
		s := set.At()
		for _, chunk := range s.Chunks {
			decoded, err := chunkenc.FromData(chunk.Raw.Encoding, chunk.Raw.Bytes)
			require.NoError(t, err)
			it := decoded.Iterator(nil)
			for it.Next() != chunkenc.ValNone {
				ts, _ := it.At()
				out[point{s.Labels.Get("__name__"), ts}] = true
			}
		}
	}
	require.NoError(t, set.Err())
	return out
}

// copies says on how many nodes the acknowledged samples are: the number of
// samples by the number of copies.
func (c *client) copies(t *testing.T, nodes []*node) map[int]int {
	var have []map[point]bool
	for _, n := range nodes {
		have = append(have, stored(t, n))
	}
	out := map[int]int{}
	for p := range c.acked {
		copies := 0
		for _, h := range have {
			if h[p] {
				copies++
			}
		}
		out[copies]++
	}
	return out
}
