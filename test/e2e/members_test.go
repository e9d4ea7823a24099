package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/hindsight-io/hindsight/pkg/receive/discovery/kubetest"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const membersDomain = "receive.monitoring.svc.cluster.local"

// replicas is a StatefulSet of receivers without a hashring file, in pods that have
// names and addresses of their own. The test is its controller.
type replicas struct {
	*harness.Pods
	t       *testing.T
	dir     string
	members string // --receive.members
	env     []string
	procs   map[string]*harness.Process
	local   map[string]string
	urls    atomic.Pointer[[]string] // of the write ports of live pods
	stop    chan struct{}
	done    chan struct{}
	ledger  *ledger
}

func podName(i int) string { return fmt.Sprintf("receive-%d", i) }

func newReplicas(t *testing.T, members string) *replicas {
	r := &replicas{t: t, dir: t.TempDir(), members: members, procs: map[string]*harness.Process{}, local: map[string]string{}}
	names := []string{"query-0", "store-0"}
	for i := range 5 {
		names = append(names, podName(i))
	}
	var err error
	r.Pods, err = harness.NewPods(r.dir, membersDomain, names...)
	if errors.Is(err, harness.ErrNoPods) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		for name, p := range r.procs {
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", name, p.Tail(25))
			}
			p.Kill()
		}
		require.NoError(t, r.Close())
	})
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "objstore.yml"),
		[]byte("type: FILESYSTEM\nconfig:\n  directory: "+filepath.Join(r.dir, "bucket")+"\n"), 0o644))
	r.urls.Store(&[]string{})
	return r
}

// start starts pods at the same time, and waits until all are ready.
func (r *replicas) start(numbers ...int) {
	r.t.Helper()
	for _, i := range numbers {
		name := podName(i)
		p, err := r.StartEnv(name, r.env, bin.Hindsight, "receive",
			"--grpc-address=0.0.0.0:10901", "--http-address=0.0.0.0:10902", "--remote-write.address=0.0.0.0:19291",
			"--receive.replication-factor=3", "--receive.members="+r.members,
			"--receive.members-interval=500ms", "--receive.members-timeout=1m", "--receive.kubernetes-credentials="+r.dir,
			"--tsdb.path="+filepath.Join(r.dir, name), "--objstore.config-file="+filepath.Join(r.dir, "objstore.yml"))
		require.NoError(r.t, err)
		r.procs[name] = p
	}
	for _, i := range numbers {
		require.NoError(r.t, harness.WaitHTTP(r.procs[podName(i)], r.url(podName(i), 10902)+"/-/ready", time.Minute))
	}
}

func (r *replicas) url(name string, port int) string {
	key := fmt.Sprintf("%s:%d", r.IP(name), port)
	if r.local[key] == "" {
		var err error
		r.local[key], err = r.Forward(key)
		require.NoError(r.t, err)
	}
	return "http://" + r.local[key]
}

// serve sends the writes to the given pods from now on.
func (r *replicas) serve(numbers ...int) {
	var urls []string
	for _, i := range numbers {
		urls = append(urls, r.url(podName(i), 19291)+"/api/v1/receive")
	}
	r.urls.Store(&urls)
}

// write begins to write.
func (r *replicas) write(metric string) {
	r.ledger = newLedger(metric, 60)
	r.ledger.retry = true
	r.stop, r.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(r.done)
		r.ledger.run(r.stop, 10*time.Millisecond, func() []string { return *r.urls.Load() })
	}()
}

// ring waits until the pods have the ring of the members.
func (r *replicas) ring(members []int, pods ...int) {
	r.t.Helper()
	var want []string
	for _, i := range members {
		want = append(want, podName(i)+"."+membersDomain+":10901")
	}
	for _, i := range pods {
		eventually(r.t, time.Minute, func() error {
			if got := r.has(i); !slices.Equal(got, want) {
				return fmt.Errorf("the ring of %s is %v", podName(i), got)
			}
			return nil
		})
	}
}

// has returns the ring of a pod.
func (r *replicas) has(i int) (out []string) {
	resp, err := http.Get(r.url(podName(i), 10902) + "/api/v1/receive/ring")
	if err != nil {
		return []string{err.Error()}
	}
	defer resp.Body.Close()
	var ring struct{ Members []struct{ Address string } }
	if err := json.NewDecoder(resp.Body).Decode(&ring); err != nil {
		return []string{err.Error()}
	}
	for _, m := range ring.Members {
		out = append(out, m.Address)
	}
	return out
}

// progress waits for more acknowledged samples.
func (r *replicas) progress() {
	r.t.Helper()
	from := r.ledger.count()
	eventually(r.t, time.Minute, func() error {
		if n := r.ledger.count() - from; n < 600 {
			return fmt.Errorf("%d more samples are acknowledged; %s", n, r.ledger.lastErrors())
		}
		return nil
	})
}

// verify ends the writes and reads everything through a querier, from the pods and
// from the bucket.
func (r *replicas) verify(pods ...int) {
	r.t.Helper()
	close(r.stop)
	<-r.done
	require.Empty(r.t, r.ledger.failed)
	store, err := r.Start("store-0", bin.Hindsight, "store", "--sync-block-duration=1s", "--ignore-deletion-marks-delay=0s",
		"--data-dir="+filepath.Join(r.dir, "store"), "--objstore.config-file="+filepath.Join(r.dir, "objstore.yml"))
	require.NoError(r.t, err)
	r.procs["store-0"] = store
	args := []string{"query", "--endpoint=store-0." + membersDomain + ":10901"}
	for _, i := range pods {
		args = append(args, "--endpoint="+podName(i)+"."+membersDomain+":10901")
	}
	query, err := r.Start("query-0", bin.Hindsight, args...)
	require.NoError(r.t, err)
	r.procs["query-0"] = query
	for _, name := range []string{"store-0", "query-0"} {
		require.NoError(r.t, harness.WaitHTTP(r.procs[name], r.url(name, 10902)+"/-/ready", time.Minute))
	}
	eventually(r.t, time.Minute, func() error { return r.ledger.check(harness.API{Base: r.url("query-0", 10902)}) })
}

// Receivers of a StatefulSet without a hashring file: they start at the same time, the set is
// scaled from 3 to 5 and back by its size alone, one is killed, all restart at once, all
// while a client writes. Every acknowledged sample is there, and no other.
func TestMembers_ScaleStatefulSetByKubernetesAPI(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, "k8s+"+membersDomain+":grpc")
	lis, err := r.Listen("6443")
	require.NoError(t, err)
	api, err := kubetest.Start(lis, r.dir, "receive", "monitoring")
	require.NoError(t, err)
	defer func() { require.NoError(t, api.Close()) }()
	r.env = []string{"KUBERNETES_SERVICE_HOST=" + harness.NodeIP, "KUBERNETES_SERVICE_PORT=6443"}
	put := func(terminating bool, numbers ...int) {
		for _, i := range numbers {
			api.Put(kubetest.Pod{Name: podName(i), Hostname: podName(i), IP: r.IP(podName(i)), Port: 10901, Terminating: terminating})
		}
	}

	api.Scale("receive", 3)
	put(false, 0, 1, 2)
	r.start(0, 1, 2)
	r.serve(0, 1, 2)
	r.write("scaled_total")
	r.ring([]int{0, 1, 2}, 0, 1, 2)
	r.progress()

	api.Scale("receive", 5)
	put(false, 3, 4)
	r.start(3, 4)
	r.ring([]int{0, 1, 2, 3, 4}, 0, 1, 2, 3, 4)
	r.serve(0, 1, 2, 3, 4)
	r.progress()

	r.procs[podName(1)].Kill()
	api.Delete(podName(1)) // its machine is gone: the pod comes back elsewhere
	r.progress()
	r.ring([]int{0, 1, 2, 3, 4}, 0, 4)
	require.NoError(t, r.Move(podName(1), "10.77.0.88"))
	put(false, 1)
	r.start(1)
	r.progress()

	// Two pods end at once, while clients still write to them.
	api.Scale("receive", 3)
	put(true, 3, 4)
	stopped := make(chan error, 2)
	for _, i := range []int{3, 4} {
		go func() { stopped <- r.procs[podName(i)].Stop(2 * time.Minute) }()
	}
	r.ring([]int{0, 1, 2}, 0, 1, 2)
	r.progress()
	require.NoError(t, errors.Join(<-stopped, <-stopped))
	for _, i := range []int{3, 4} {
		require.Contains(t, r.procs[podName(i)].Output(), "prepared for removal")
		api.Delete(podName(i))
	}
	r.serve(0, 1, 2)
	r.progress()

	// Every pod restarts, and the API is down.
	api.SetDown(true)
	for _, i := range []int{0, 1, 2} {
		go func() { stopped <- r.procs[podName(i)].Stop(2 * time.Minute) }()
	}
	for range 3 {
		require.NoError(t, <-stopped)
	}
	r.start(0, 1, 2)
	r.ring([]int{0, 1, 2}, 0, 1, 2)
	r.progress()
	api.SetDown(false)
	r.verify(0, 1, 2)
}

// flappingDNS answers the SRV records of a headless service: in another order each
// time, and often without some of them, with none, or with a failure.
type flappingDNS struct {
	conn net.PacketConn
	rnd  *rand.Rand
	pods atomic.Pointer[[]int]
	// calm ends the flapping.
	calm atomic.Bool
}

// answer returns the answer to a question; each pod is there in three of four.
func (d *flappingDNS) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	ours := len(m.Questions) == 1 && m.Questions[0].Type == dnsmessage.TypeSRV && strings.HasPrefix(m.Questions[0].Name.String(), "_grpc._tcp.receive.")
	fate := d.rnd.Intn(6)
	if d.calm.Load() {
		fate = 5
	}
	switch {
	case !ours || fate == 0:
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	case fate == 1:
		m.RCode = dnsmessage.RCodeServerFailure
		return m.Pack()
	}
	pods := slices.Clone(*d.pods.Load())
	d.rnd.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	for _, i := range pods {
		if fate < 5 && d.rnd.Intn(4) == 0 {
			continue
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.SRVResource{Weight: 1, Port: 10901, Target: dnsmessage.MustNewName(podName(i) + "." + membersDomain + ".")},
		})
	}
	return m.Pack()
}

func (d *flappingDNS) serve() {
	buf := make([]byte, 4096)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, err := d.answer(buf[:n]); err == nil {
			_, _ = d.conn.WriteTo(reply, from) // the client asks again
		}
	}
}

// The same by DNS, which flaps all the time: the ring never shrinks by it. Nodes that
// are removed say so before.
func TestMembers_FlappingDNS(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, "dnssrv+_grpc._tcp."+membersDomain)
	conn, err := r.ListenPacket("53")
	require.NoError(t, err)
	dns := &flappingDNS{conn: conn, rnd: rand.New(rand.NewSource(1))}
	dns.pods.Store(&[]int{0, 1, 2, 3})
	served := make(chan struct{})
	go func() { defer close(served); dns.serve() }()
	defer func() { conn.Close(); <-served }()

	r.start(0, 1, 2, 3)
	r.serve(0, 1, 2, 3)
	r.ring([]int{0, 1, 2, 3}, 0, 1, 2, 3)
	r.write("flapping_total")
	r.progress()
	r.procs[podName(2)].Kill()
	r.progress()
	r.start(2)
	r.progress()
	for _, i := range []int{0, 1, 3} {
		require.NotContains(t, r.procs[podName(i)].Output(), "member left the hashring")
	}
	resp, err := http.Post(r.url(podName(3), 10902)+"/-/prepare-downscale", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	r.ring([]int{0, 1, 2}, 0, 1, 2)
	dns.pods.Store(&[]int{0, 1, 2})
	r.serve(0, 1, 2)
	r.progress()
	require.NoError(t, r.procs[podName(3)].Stop(time.Minute))
	dns.calm.Store(true)
	r.progress()
	r.verify(0, 1, 2)
}
