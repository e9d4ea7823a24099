package receive

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/receive/discovery/kubetest"
)

// service is a headless service of receivers in this process. Its pods have no names
// in DNS, so their addresses are their identity.
type service struct {
	t   *testing.T
	api *kubetest.Server
	cfg Config
	bkt bucket.Bucket
}

func newService(t *testing.T) *service {
	dir := t.TempDir()
	lis := listen(t)
	host, port, err := net.SplitHostPort(lis.Addr().String())
	require.NoError(t, err)
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	s := &service{t: t, cfg: DefaultConfig()}
	s.api, err = kubetest.Start(lis, dir, "receive", "monitoring")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.api.Close()) })
	s.cfg.Members, s.cfg.KubernetesCredentials = []string{"k8s+receive.monitoring.svc:grpc"}, dir
	s.cfg.MembersInterval, s.cfg.MembersTimeout = flags.Duration(50*time.Millisecond), flags.Duration(time.Minute)
	s.cfg.ForwardTimeout = flags.Duration(2 * time.Second)
	s.cfg.ReplicationFactor = 3
	s.bkt = bucket.NewMemory()
	return s
}

// start starts the pod with the number n on a listener and a directory.
func (s *service) start(n int, lis net.Listener, dir string) *member {
	port := lis.Addr().(*net.TCPAddr).Port
	s.api.Put(kubetest.Pod{Name: fmt.Sprintf("receive-%d", n), IP: "127.0.0.1", Port: port})
	cfg := s.cfg
	cfg.TSDB.Path = dir
	require.NoError(s.t, cfg.Labels.Set(fmt.Sprintf(`replica="%d"`, n)))
	return start(s.t, cfg, lis, s.bkt)
}

func (m *member) members() (out []string) {
	for _, x := range m.ring().Members {
		out = append(out, x.Address)
	}
	return out
}

// await waits until the nodes have the same ring of so many members.
func (s *service) await(n int, nodes ...*member) {
	s.t.Helper()
	for _, m := range nodes {
		require.Eventually(s.t, func() bool {
			ring := m.members()
			return len(ring) == n && slices.IsSorted(ring) && slices.Equal(ring, nodes[0].members())
		}, 20*time.Second, 5*time.Millisecond, "%v", m.members())
	}
}

// Nodes that start one after the other, each when the one before is ready, form a ring.
// One that restarts while the API is down has it at once. A StatefulSet that shrinks
// takes its nodes out of the ring, and they ship everything before they stop.
func TestMembers_StartScaleAndRestart(t *testing.T) {
	s := newService(t)
	s.api.Scale("receive", 3)
	var nodes []*member
	var dirs []string
	now := time.Now().UnixMilli()
	for i := range 3 {
		dirs = append(dirs, t.TempDir())
		nodes = append(nodes, s.start(i, listen(t), dirs[i])) // waits until it is ready
		if i < 2 {
			r := post(t, nodes[i].url("/api/v1/receive"), v1(t, now, "early"))
			require.Equal(t, http.StatusServiceUnavailable, r.code, "too few members for three copies")
			require.Contains(t, r.body, "hashring")
		}
	}
	s.await(3, nodes...)
	require.Equal(t, 200, post(t, nodes[0].url("/api/v1/receive"), v1(t, now, "a")).code)
	require.Eventually(t, func() bool { return copies(t, nodes, "default-tenant/a") == 3 }, 10*time.Second, 5*time.Millisecond)

	s.api.Scale("receive", 5)
	for i := 3; i < 5; i++ {
		dirs = append(dirs, t.TempDir())
		nodes = append(nodes, s.start(i, listen(t), dirs[i]))
	}
	s.await(5, nodes...)
	require.Equal(t, 200, post(t, nodes[0].url("/api/v1/receive"), v1(t, now+1, names(0, 100)...)).code)
	// A write is acknowledged with two of three copies.
	require.Eventually(t, func() bool { return len(series(t, nodes[4].Store())) > 0 }, 10*time.Second, 5*time.Millisecond)

	// A restart while the API does not answer.
	address := nodes[1].lis.Addr().String()
	nodes[1].end()
	s.api.SetDown(true)
	lis, err := net.Listen("tcp", address)
	require.NoError(t, err)
	nodes[1] = s.start(1, lis, dirs[1])
	require.Len(t, nodes[1].members(), 5)
	require.Contains(t, get(t, nodes[1], "GET", "/api/v1/receive/ring").body, "etcd is down")
	s.api.SetDown(false)

	// kubectl scale: both pods get the signal at once, and are still found.
	require.Equal(t, 200, post(t, nodes[2].url("/api/v1/receive"), v1(t, now+2, names(0, 100)...)).code)
	s.api.Scale("receive", 3)
	done := make(chan struct{}, 2)
	for _, m := range nodes[3:] {
		go func() {
			m.PrepareStop(t.Context())
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	s.await(3, nodes...)
	for _, m := range nodes[3:] {
		require.Empty(t, m.ring().Self)
		require.Zero(t, m.db.Unshipped())
		require.NotEmpty(t, series(t, m.Store()), "reads go on")
		require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, now+3, "b")).code, "a client that does not know yet is served by the others")
	}
	// A restart is no departure.
	nodes[0].PrepareStop(t.Context())
	require.False(t, nodes[0].Receive.departure().Prepared)
	s.await(3, nodes[:3]...)
}

// A node whose first start finds no members, because the API is down, ships the blocks
// that it has while it waits.
func TestMembers_ShipBeforeTheFirstAnswer(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	plain := DefaultConfig()
	plain.TSDB.Path = dir
	require.NoError(t, plain.Labels.Set(`replica="0"`))
	before := start(t, plain, listen(t), nil)
	require.Equal(t, 200, post(t, before.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "a")).code)
	require.NoError(t, before.db.Flush(t.Context(), ""))
	before.end()

	s.api.SetDown(true)
	cfg := s.cfg
	cfg.TSDB.Path, cfg.Labels, cfg.syncInterval = dir, plain.Labels, 50*time.Millisecond
	node := launch(t, cfg, listen(t), Deps{Logger: slog.New(slog.DiscardHandler), Bucket: s.bkt})
	t.Cleanup(node.end)
	require.Eventually(t, func() bool { return metasIn(t, s.bkt) == 1 }, 20*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, node.Ready(), "waits for the members of the hashring")
}

// metasIn counts the blocks of a bucket.
func metasIn(t *testing.T, bkt bucket.Bucket) (n int) {
	require.NoError(t, bkt.List(t.Context(), "", func(o bucket.Object) error {
		if filepath.Base(o.Name) == "meta.json" {
			n++
		}
		return nil
	}))
	return n
}

// POST /-/prepare-downscale takes a node out of the ring without the API's help, and
// DELETE brings it back.
func TestMembers_LeaveOnRequest(t *testing.T) {
	s := newService(t)
	s.api.Deny()
	var nodes []*member
	for i := range 4 {
		nodes = append(nodes, s.start(i, listen(t), t.TempDir()))
	}
	s.await(4, nodes...)
	require.Equal(t, 200, get(t, nodes[3], "POST", "/-/prepare-downscale").code)
	for _, m := range nodes {
		require.Len(t, m.members(), 3, "all know it before the answer")
	}
	require.Contains(t, get(t, nodes[0], "GET", "/api/v1/receive/ring").body, `"waiting":["`+nodes[3].lis.Addr().String())
	require.Equal(t, 200, get(t, nodes[3], "DELETE", "/-/prepare-downscale").code)
	s.await(4, nodes...)
}

// A file of members that is damaged is no reason not to start.
func TestMembers_DamagedFile(t *testing.T) {
	s := newService(t)
	s.cfg.ReplicationFactor = 1
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, membersFile), []byte("{"), 0o600))
	m := s.start(0, listen(t), dir)
	s.await(1, m)
	content, err := os.ReadFile(filepath.Join(dir, membersFile))
	require.NoError(t, err)
	require.Contains(t, string(content), m.lis.Addr().String())
}

func TestMembersFlags(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"exclude each other":          func(c *Config) { c.Hashrings = "[]" },
		"--receive.members-interval":  func(c *Config) { c.MembersInterval = 0 },
		"at most --receive.members-t": func(c *Config) { c.MembersTimeout = flags.Duration(time.Second) },
	} {
		cfg := DefaultConfig()
		cfg.Members = []string{"a:1"}
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), want)
	}
}
