package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// alertCause is what TestMixin does to fire an alert.
type alertCause struct{ alert, cause string }

// alertCauses has each alert once.
func alertCauses() []alertCause {
	return []alertCause{
		{"HindsightDown", "receive-3 is killed"},
		{"HindsightConfigReloadFailed", "limits, hashring and endpoint files are damaged, and a reload is asked for"},
		{"HindsightPanics", "a function of store-bad reads from address 0 (Process.Break)"},
		{"HindsightHTTPErrors", "two of three receivers are killed"},
		{"HindsightGRPCErrors", "calls that panic"},
		{"HindsightBucketErrors", "the directory that is a bucket becomes a link to itself"},
		{"HindsightBucketSlow", "a proxy before the S3 server of compact-slow delays listings"},
		{"HindsightStoreMissing", "a name without addresses"},
		{"HindsightStoreAnswersFail", "a name without addresses"},
		{"HindsightStoreMislabeled", "a store that forgets its external label"},
		{"HindsightQueryLimitRejections", "a query of more samples than the limit"},
		{"HindsightQuerySlow", "a store that answers after 31 s"},
		{"HindsightQueryQueueing", "one slot, and queries that calculate for seconds"},
		{"HindsightEndpointDNSFailures", "a process whose name server does not run"},
		{"HindsightEndpointFileRefused", "the file is damaged"},
		{"HindsightReceiveWriteErrors", "two of three receivers are killed"},
		{"HindsightReceiveForwardFailures", "a receiver is killed"},
		{"HindsightReceiveHintsPending", "a receiver is killed"},
		{"HindsightReceiveHintsLost", "a receiver is killed, and the hint log has 64 KB"},
		{"HindsightReceiveRejectedSamples", "a tenant at its limit of series"},
		{"HindsightReceiveHashringRefused", "the file is damaged"},
		{"HindsightReceiveMembersNotFound", "a process whose name server does not run"},
		{"HindsightReceiveLimitsRefused", "the file is damaged"},
		{"HindsightReceiveTenantsFailed", "the log of a tenant is a file instead of a directory"},
		{"HindsightReceiveTenantNearLimit", "a tenant at its limit of series"},
		{"HindsightReceiveTenantsRefused", "a limit of two tenants"},
		{"HindsightReceiveUploadFailures", "a block of a tenant, and a bucket that is gone"},
		{"HindsightStoreSyncFailures", "the S3 server is killed"},
		{"HindsightStoreSyncStale", "the last listing was when the clock of store-bad was two hours back; then the bucket is gone"},
		{"HindsightStoreBlocksQuarantined", "damaged blocks"},
		{"HindsightStoreReadFailures", "damaged blocks"},
		{"HindsightStoreRequestsRefused", "a query of two series, and a limit of one"},
		{"HindsightHeadRecoveryFailed", "a head log that is three days old and damaged"},
		{"HindsightCompactPassesFail", "the last successful pass was when the clock of compact-bad was 25 hours back; then the bucket is gone"},
		{"HindsightCompactStale", "as HindsightCompactPassesFail"},
		{"HindsightCompactBlocksQuarantined", "damaged blocks"},
		{"HindsightCompactBlocksSkipped", "a block of the year 2200"},
		{"HindsightCompactBacklogGrows", "a slow bucket, small blocks that were merged, and a large one"},
		{"HindsightSidecarPrometheusDown", "a Prometheus is killed"},
		{"HindsightSidecarShipFailures", "a damaged block"},
		{"HindsightSidecarUnshipped", "a damaged block of 2020"},
		{"HindsightSidecarHeadBehind", "the last shipping was when the clock of sidecar-bad was an hour back; then the bucket is gone"},
		{"HindsightSidecarHeadFailures", "the S3 server is killed"},
		{"HindsightSidecarLabelConflict", "a pair without distinct replica labels"},
		{"HindsightSidecarUnsafeCompaction", "a Prometheus is restarted with other block durations, and five minutes pass (Process.Skip)"},
		{"HindsightShipperCorruptedBlocks", "a damaged block"},
	}
}

// The alerts that only some machines can fire: a process with a name server of its own needs
// root, and changes of the clock or the code of a process need linux/amd64.
func needRoot() []string {
	return []string{"HindsightEndpointDNSFailures", "HindsightReceiveMembersNotFound"}
}

func needClock() []string {
	return []string{
		"HindsightPanics", "HindsightGRPCErrors", "HindsightStoreSyncStale", "HindsightCompactPassesFail", "HindsightCompactStale",
		"HindsightSidecarHeadBehind", "HindsightSidecarUnsafeCompaction",
	}
}

// causeListeners are the listeners of the processes that only exist to have a cause.
func causeListeners() []string {
	var out []string
	for _, name := range []string{"compact-bad", "compact-slow", "store-bad", "sidecar-bad", "receive-bad", "receive-lost", "query-bad"} {
		out = append(out, name, name+"/grpc")
	}
	return append(out, "receive-bad/write", "receive-lost/write")
}

// forgetfulStore sends series without the label that it announces, and answers some queries
// after half a minute.
type forgetfulStore struct {
	hostileStore
	// hanging gets a value when a query hangs.
	hanging chan struct{}
}

// hangs is how long a query of the metric "hangs" takes. The histogram of durations has a
// bound at 30 s.
const hangs = 31 * time.Second

func (f forgetfulStore) Series(r *storepb.SeriesRequest, stream grpc.ServerStreamingServer[storepb.SeriesResponse]) error {
	for _, m := range r.GetMatchers() {
		switch m.GetValue() {
		case "hangs":
			f.hanging <- struct{}{}
			select {
			case <-stream.Context().Done():
			case <-time.After(hangs):
			}
			return nil
		case "forgetful":
			s := series("forgetful", "", floats())
			s.Labels = s.Labels[:1]
			return stream.Send(frame(s))
		}
	}
	return f.hostileStore.Series(r, stream)
}

// causes are the processes that have causes which those of the demo cannot have.
type causes struct {
	mixinSite
	procs map[string]*harness.Process
	// asking ends when the slow queries have ended.
	asking sync.WaitGroup
	clocks bool
}

// start starts a process, with a name server that does not run if that is asked for.
func (c *causes) start(name string, args ...string) {
	t := c.t
	role, _, _ := strings.Cut(name, "-")
	args = append([]string{role, "--http-address=" + c.more[name]}, args...)
	if role != "compact" {
		args = append(args, "--grpc-address="+c.more[name+"/grpc"])
	}
	command := append([]string{bin.Hindsight}, args...)
	if (name == "query-bad" || name == "receive-lost") && os.Getuid() == 0 {
		c.write("resolv.conf", "nameserver 127.255.255.253\noptions timeout:1 attempts:1\n")
		command = append([]string{
			"unshare", "--mount", "--propagation=private", "sh", "-c",
			`mount --bind "$0" /etc/resolv.conf && exec "$@"`, c.Path("resolv.conf"),
		}, command...)
	}
	p, err := harness.StartEnv(c.Dir, []string{"GODEBUG=netdns=go"}, name, command[0], command[1:]...)
	require.NoError(t, err)
	c.procs[name] = p
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.Tail(15))
		}
	})
}

// setClock sets the clock of a process where that can be done.
func (c *causes) setClock(name string, skew time.Duration) {
	err := c.procs[name].SetClock(skew)
	if errors.Is(err, harness.ErrNoClock) {
		c.clocks = false
		return
	}
	require.NoError(c.t, err)
}

// directory makes a bucket that is a directory, by a link, and returns its configuration.
func (c *causes) directory(name string) (flag string) {
	require.NoError(c.t, os.MkdirAll(c.Path(name+".dir"), 0o755))
	require.NoError(c.t, os.Symlink(name+".dir", c.Path(name)))
	c.write(name+".yml", "type: FILESYSTEM\nconfig:\n  directory: "+c.Path(name)+"\n")
	return "--objstore.config-file=" + c.Path(name+".yml")
}

// remove makes a bucket that is a directory unusable at once, by a link to itself: operations
// on an S3 server are repeated for a while, and a directory that is not there is empty.
func (c *causes) remove(name string) {
	require.NoError(c.t, os.Symlink(name, c.Path(name+".new")))
	require.NoError(c.t, os.Rename(c.Path(name+".new"), c.Path(name)))
}

// startCauses starts the processes while all is well, but for clocks that are back.
func (s mixinSite) startCauses() *causes {
	c := &causes{mixinSite: s, procs: map[string]*harness.Process{}, clocks: true}
	s.t.Cleanup(c.asking.Wait)
	c.startSlow()
	bucket := c.directory("bad")
	c.fill("bad", `
block fine range=1583020800s..1583028000s labels={cluster="fine"}
  fine{job="x"} 1583020800s..1583028000s/60s:1+1
  fine{job="y"} 1583020800s..1583028000s/60s:1+1
`)
	c.start("compact-bad", bucket, "--data-dir="+c.Path("compact-bad"), "--wait", "--wait-interval=1s", "--consistency-delay=0s")
	c.start("store-bad", bucket, "--data-dir="+c.Path("store-bad"), "--sync-block-duration=1s", "--store.limits.request-series=1")
	c.start("sidecar-bad", bucket, "--prometheus.url="+c.URL("prometheus-edge"), "--tsdb.path="+c.Path("prometheus-edge"), "--shipper.head-interval=1s")
	c.setClock("compact-bad", -25*time.Hour)
	c.setClock("store-bad", -2*time.Hour)
	c.setClock("sidecar-bad", -time.Hour)
	c.startReceivers()
	for name, p := range c.procs {
		require.NoError(s.t, harness.WaitHTTP(p, "http://"+c.more[name]+"/-/healthy", time.Minute))
	}
	return c
}

// fill uploads the blocks of a text to a bucket with a configuration of that name.
func (c *causes) fill(name, blocks string) {
	t := c.t
	content, err := os.ReadFile(c.Path(name + ".yml"))
	require.NoError(t, err)
	bkt, err := provider.Open(t.Context(), content, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	blocktest.Fill(t, bkt, blocks)
	require.NoError(t, bkt.Close())
}

// startSlow starts a querier whose only slot waits for a store, and a compactor with a slow
// bucket.
func (c *causes) startSlow() {
	t := c.t
	hanging := make(chan struct{}, 10)
	store := startStore(t, "127.0.0.1", forgetfulStore{hanging: hanging})
	c.start("query-bad", "--endpoint="+store, "--query.max-concurrent=1", "--store.response-timeout=60s",
		"--endpoint=dns+unknown.invalid:10901", "--store.sd-dns-interval=1s")
	require.NoError(t, harness.WaitHTTP(c.procs["query-bad"], "http://"+c.more["query-bad"]+"/-/ready", time.Minute))
	api := harness.API{Base: "http://" + c.more["query-bad"]}
	from := time.UnixMilli(hostileTime)
	eventually(t, 30*time.Second, func() error {
		a, err := api.Instant("good", from)
		if err == nil && len(a.Series) == 0 {
			err = errors.New("the querier does not know the store yet")
		}
		return err
	})
	// A histogram has the series of a status after its first request. The slow query is one of
	// few range queries: the instant queries of load on a fast host, or those above on a slow
	// one, are so many that one slow query among them is no percentile.
	_, err := api.Range("good", from, from, time.Second)
	require.NoError(t, err)
	c.asking.Go(func() { _, _ = api.Range("hangs", from, from, time.Second) })
	<-hanging
	// A query gives its slot away while it waits for stores, but not while it calculates.
	for range 4 {
		c.asking.Go(func() {
			_, _ = api.Range("quantile_over_time(0.5, vector(time())[1h:1s])", from, from.Add(time.Hour), time.Second)
		})
	}

	const listing, other = 6500 * time.Millisecond, 200 * time.Millisecond
	backend, err := url.Parse(c.URL("s3"))
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(backend)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		delay := other
		if q := r.URL.Query(); q.Has("list-type") && q.Get("prefix") == "" {
			delay = listing
		}
		select {
		case <-r.Context().Done():
		case <-time.After(delay):
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { slow.CloseClientConnections(); slow.Close() })
	config := func(endpoint string) string {
		return fmt.Sprintf("type: S3\nconfig: {bucket: slow, endpoint: %q, region: us-east-1, access_key: %q, secret_key: %q, insecure: true}\n",
			endpoint, harness.S3AccessKey, harness.S3SecretKey)
	}
	c.write("direct.yml", config(c.Addr("s3")))
	c.write("slow.yml", config(strings.TrimPrefix(slow.URL, "http://")))
	var blocks strings.Builder
	day := time.Now().UnixMilli() / (24 * hour) * 24 * hour
	for i := range int64(4) {
		from := (day - 24*hour + i*twoHours) / 1000
		fmt.Fprintf(&blocks, "block small%d range=%ds..%ds labels={cluster=\"slow\"}\n  up{job=\"x\"} %ds..%ds/60s:1+1\n", i, from, from+7200, from, from+60)
	}
	begin := (day - twoHours) / 1000
	fmt.Fprintf(&blocks, "block large range=%ds..%ds labels={cluster=\"slow\"}\n", begin, begin+7200)
	for i := range 20 {
		fmt.Fprintf(&blocks, "  up{job=\"%02d\"} %ds..%ds/1s:1+1\n", i, begin, begin+7200)
	}
	c.fill("direct", blocks.String())
	c.start("compact-slow", "--objstore.config-file="+c.Path("slow.yml"), "--data-dir="+c.Path("compact-slow"),
		"--wait", "--wait-interval=1s", "--consistency-delay=0s", "--downsampling.disable")
}

// startReceivers starts a receiver with a damaged tenant and a bucket that works until its
// first upload, and one that finds no other.
func (c *causes) startReceivers() {
	c.write("receive-bad/broken/wal", "no directory")
	require.NoError(c.t, os.MkdirAll(c.Path("receive-bad/whole/wal"), 0o755))
	for name, args := range map[string][]string{
		"receive-bad":  {c.directory("bad-receive")},
		"receive-lost": {"--receive.members=dns+unknown.invalid:10901", "--receive.members-interval=1s", "--receive.local-endpoint=" + c.more["receive-lost/grpc"]},
	} {
		c.start(name, append(args, "--tsdb.path="+c.Path(name), "--label=receive_replica=\"bad\"", "--remote-write.address="+c.more[name+"/write"])...)
	}
}

// awaitPast waits until the processes whose clocks are back have done their work.
func (c *causes) awaitPast() {
	if !c.clocks {
		return
	}
	for _, x := range []struct {
		process, metric string
		atLeast         time.Duration
	}{
		{"compact-bad", "hindsight_compact_last_successful_pass_timestamp_seconds", 24 * time.Hour},
		{"store-bad", "hindsight_store_last_sync_timestamp_seconds", time.Hour},
		{"sidecar-bad", "hindsight_sidecar_head_last_ship_success_time_seconds", 15 * time.Minute},
	} {
		eventually(c.t, time.Minute, func() error {
			f := readFamilies(c.t, "http://"+c.more[x.process])[x.metric]
			if f == nil || f.Metric[0].Gauge.GetValue() == 0 {
				return fmt.Errorf("%s has no %s", x.process, x.metric)
			}
			if at := time.Unix(int64(f.Metric[0].Gauge.GetValue()), 0); time.Since(at) < x.atLeast {
				return fmt.Errorf("%s of %s is %s", x.metric, x.process, at)
			}
			return nil
		})
	}
}

// damageBuckets damages what the processes read while they read it.
func (c *causes) damageBuckets() {
	t := c.t
	day := time.Date(2020, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	c.badBlock("bad", "01E29T5W000000000000000001", day, day+twoHours)
	c.badBlock("bad", "01E29T5W000000000000000002", day, day+twoHours)
	future := time.Date(2200, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	c.badBlock("bad", "01E29T5W000000000000000003", future, future+twoHours)
	c.badBlock("prometheus-us-a", "01E29T5W000000000000000004", day, day+twoHours)
	c.write("bad/01E29T5W000000000000000005/index", "without meta.json")
	c.oldHead()
	c.remove("bad-receive")
	end := time.Now().UnixMilli() / twoHours * twoHours
	writeBlock(t, c.Path("receive-bad/whole"), end-twoHours, end, 60_000, 0, []metric{{name: "whole"}})
	if c.clocks {
		require.NoError(t, c.procs["store-bad"].Break("github.com/hindsight-io/hindsight/pkg/storeapi/storerpc.(*server).LabelNames"))
	}
	c.Proc("prometheus-edge").Kill()
	c.Extra["prometheus-edge"] = []string{"--storage.tsdb.max-block-duration=36h"}
	require.NoError(t, c.Start("prometheus-edge"))
	if c.clocks {
		require.NoError(t, c.procs["sidecar-bad"].Skip(5*time.Minute))
	}
}

// oldHead puts the head log of a Prometheus into the bucket, as if it was three days old, with
// damaged pieces.
func (c *causes) oldHead() {
	t := c.t
	from, to := c.Path("s3/hindsight", headlog.Dir), c.Path("bad", headlog.Dir)
	old := time.Now().Add(-72 * time.Hour)
	pieces := 0
	require.NoError(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		rel, err := filepath.Rel(from, path)
		require.NoError(t, err)
		if !bytes.HasPrefix(content, []byte("{")) && len(content) > 100 {
			content[len(content)/2] ^= 0x10
			pieces++
		}
		c.write(filepath.Join("bad", headlog.Dir, rel), string(content))
		return os.Chtimes(filepath.Join(to, rel), old, old)
	}))
	require.Positive(t, pieces, "pieces of head logs")
}

// endBuckets takes the bucket away and sets the clocks right, so that the last success of each
// process is long ago.
func (c *causes) endBuckets() {
	failures := map[string]string{
		"compact-bad": "hindsight_compact_passes_failed_total", "store-bad": "hindsight_store_sync_failures_total",
		"sidecar-bad": "hindsight_sidecar_head_ship_failures_total",
	}
	count := func(name string) float64 {
		return readFamilies(c.t, "http://"+c.more[name])[failures[name]].Metric[0].Counter.GetValue()
	}
	before := map[string]float64{}
	c.remove("bad")
	for name := range failures {
		before[name] = count(name)
	}
	if !c.clocks {
		return
	}
	for name, n := range before {
		// The first one may be of a pass that had begun.
		eventually(c.t, time.Minute, func() error {
			if count(name) < n+2 {
				return fmt.Errorf("%s has not failed twice", name)
			}
			return nil
		})
		c.setClock(name, 0)
	}
}

// expected are the alerts that this machine can fire.
func (c *causes) expected() []string {
	skip := map[string]bool{}
	if !c.clocks {
		for _, name := range needClock() {
			skip[name] = true
		}
	}
	if syscall.Getuid() != 0 {
		for _, name := range needRoot() {
			skip[name] = true
		}
	}
	var out []string
	for _, a := range alertCauses() {
		if skip[a.alert] {
			c.t.Logf("%s is not fired on this machine: %s", a.alert, a.cause)
			continue
		}
		out = append(out, a.alert)
	}
	return out
}
