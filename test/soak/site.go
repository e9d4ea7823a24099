package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// site is the processes of a run, each with an address of its own and its own way to the
// bucket.
type site struct {
	dir    string
	bin    harness.Binaries
	net    network
	client *http.Client // reaches the processes
	disks  map[string]*disk
	proxy  map[string]*proxy
	run    sync.WaitGroup // of the proxies
	lis    []io.Closer

	mu    sync.Mutex
	procs map[string]*harness.Process
	// down are processes that a fault has ended: they need not be there.
	down map[string]bool
	// gone is the replica of the pair that will not come back, or "".
	gone string
}

const (
	receivers = 4
	copies    = 3 // of each series
)

// processes are the names of all processes in the order of their start.
func processes() []string {
	return []string{
		"s3", "receive-1", "receive-2", "receive-3", "receive-4", "prometheus-a", "prometheus-b",
		"sidecar-a", "sidecar-b", "store-1", "store-2", "compact-1", "compact-2", "query",
	}
}

// The times of the site. Samples come at many times their natural speed, so times that
// concern samples are those of production, and others are short.
const (
	deleteDelay = 90 * time.Second
	ignoreDelay = 45 * time.Second
	leaseTime   = 5 * time.Second
)

// newSite prepares the network, the disks and the proxies in dir; watch gets each change
// of the bucket.
func newSite(dir string, bin harness.Binaries, out io.Writer, watch func(event)) (*site, error) {
	s := &site{dir: dir, bin: bin, disks: map[string]*disk{}, proxy: map[string]*proxy{}, procs: map[string]*harness.Process{}, down: map[string]bool{}}
	for _, d := range []string{filepath.Join("s3", bucketName), "objects-meta", "keep"} {
		if err := os.MkdirAll(s.path(d), 0o755); err != nil {
			return nil, fmt.Errorf("make the directories of the site: %w", err)
		}
	}
	// Before the network, whose namespaces have the mounts of their beginning.
	s.mountDisks(out)
	var err error
	if s.net, err = openNetwork(dir, processes(), out); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: s.net.dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: 10 * time.Second}}
	for i, name := range processes() {
		if !usesBucket(name) {
			continue
		}
		p := newProxy(name, s.addr("s3", 9000), s.net.dial, watch)
		l, err := s.net.listen(9100 + i)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for %s: %w", name, err), s.close())
		}
		s.proxy[name], s.lis = p, append(s.lis, l)
		s.run.Go(func() { _ = p.serve(l) })
		if err := os.WriteFile(s.path(name+".objstore.yml"), objstore(l.Addr()), 0o644); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, errors.Join(s.writePrometheus("a"), s.writePrometheus("b"), s.setRing(receiverNames()))
}

// objstore is the configuration of the bucket at an address.
func objstore(at net.Addr) []byte {
	return fmt.Appendf(nil, "type: S3\nconfig: {bucket: %s, endpoint: %q, region: us-east-1, access_key: %s, secret_key: %s, insecure: true}\n",
		bucketName, at, harness.S3AccessKey, harness.S3SecretKey)
}

// mountDisks gives each receiver a disk of its own, where this user may mount.
func (s *site) mountDisks(out io.Writer) {
	if os.Getuid() != 0 {
		fmt.Fprintln(out, "no faults of disks: mounting needs root")
		return
	}
	for _, name := range receiverNames() {
		d, err := mountDisk(s.path(name+".img"), s.path(name))
		if err != nil {
			fmt.Fprintf(out, "no faults of disks: %v\n", err)
			return
		}
		s.disks[name] = d
	}
}

// receiverNames are the names of the receivers.
func receiverNames() []string {
	var out []string
	for _, n := range processes() {
		if roleOf(n) == "receive" {
			out = append(out, n)
		}
	}
	return out
}

func usesBucket(name string) bool {
	switch roleOf(name) {
	case "receive", "sidecar", "store", "compact":
		return true
	}
	return false
}

func (s *site) path(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }

func (s *site) addr(name string, port int) string { return fmt.Sprintf("%s:%d", s.net.ip(name), port) }

// The ports of all processes.
const (
	portHTTP  = 10902
	portGRPC  = 10901
	portWrite = 19291
	portProm  = 9090
)

// url is the HTTP address of a process.
func (s *site) url(name string) string {
	switch roleOf(name) {
	case "prometheus":
		return "http://" + s.addr(name, portProm)
	case "s3":
		return "http://" + s.addr(name, 9000)
	}
	return "http://" + s.addr(name, portHTTP)
}

// writeURLs are the remote write addresses of receivers.
func (s *site) writeURL(name string) string {
	if roleOf(name) == "prometheus" {
		return s.url(name) + "/api/v1/write"
	}
	return "http://" + s.addr(name, portWrite) + "/api/v1/receive"
}

// api is the querier as a tenant sees it.
func (s *site) api(tenant string) harness.API {
	return harness.API{Base: s.url("query"), Client: s.client, Header: http.Header{"Thanos-Tenant": {tenant}}}
}

// setRing writes the hash ring; the receivers load it.
func (s *site) setRing(members []string) error {
	var ends []string
	for _, m := range members {
		ends = append(ends, fmt.Sprintf(`{"address": %q}`, s.addr(m, portGRPC)))
	}
	text := `[{"hashring": "default", "algorithm": "ketama", "endpoints": [` + strings.Join(ends, ", ") + `]}]`
	if err := os.WriteFile(s.path("ring.json.new"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the hash ring: %w", err)
	}
	return os.Rename(s.path("ring.json.new"), s.path("ring.json"))
}

func (s *site) writePrometheus(replica string) error {
	text := fmt.Sprintf("global:\n  external_labels: {cluster: ha, tenant_id: ha, replica: %s}\nstorage:\n  tsdb:\n    out_of_order_time_window: 2h\n", replica)
	return os.WriteFile(s.path("prometheus-"+replica+".yml"), []byte(text), 0o644)
}

// command is the program and the arguments of a process.
func (s *site) command(name string) (bin string, args []string) {
	role, which, _ := strings.Cut(name, "-")
	ours := []string{role, "--http-address=" + s.addr(name, portHTTP), "--log.level=info", "--log.format=logfmt"}
	if role != "compact" {
		ours = append(ours, "--grpc-address="+s.addr(name, portGRPC))
	}
	if usesBucket(name) {
		ours = append(ours, "--objstore.config-file="+s.path(name+".objstore.yml"))
	}
	switch role {
	case "s3":
		return s.bin.S3, []string{
			"--access", harness.S3AccessKey, "--secret", harness.S3SecretKey, "--port", s.addr(name, 9000), "--quiet", "--health", "/-/ready",
			"posix", "--sidecar", s.path("objects-meta"), s.path("s3"),
		}
	case "prometheus":
		return s.bin.Prometheus, []string{
			"--config.file=" + s.path(name+".yml"), "--storage.tsdb.path=" + s.path(name), "--web.listen-address=" + s.addr(name, portProm),
			"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--storage.tsdb.retention.time=2d",
			"--web.enable-remote-write-receiver", "--log.level=warn",
		}
	case "sidecar":
		return s.bin.Hindsight, append(ours, "--prometheus.url="+s.url("prometheus-"+which), "--tsdb.path="+s.path("prometheus-"+which),
			"--prometheus.get_config_interval=2s", "--shipper.head-interval=10s", "--deletions.poll-interval=5s")
	case "receive":
		return s.bin.Hindsight, append(ours, "--remote-write.address="+s.addr(name, portWrite), "--tsdb.path="+s.path(name, "tsdb"),
			fmt.Sprintf("--label=receive_replica=%q", which), "--receive.hashrings-file="+s.path("ring.json"),
			"--receive.hashrings-file-refresh-interval=1s", "--receive.local-endpoint="+s.addr(name, portGRPC),
			fmt.Sprintf("--receive.replication-factor=%d", copies), "--tsdb.retention=36h", "--tsdb.min-free-disk=48MB",
			"--receive.capnproto-address=", "--deletions.poll-interval=5s")
	case "store":
		if s.lost("sidecar-b") {
			ours = append(ours, "--store.recover-heads-after="+recoverAfter.String())
		}
		return s.bin.Hindsight, append(ours, "--data-dir="+s.path(name), "--sync-block-duration=3s", "--deletions.poll-interval=5s",
			"--ignore-deletion-marks-delay="+ignoreDelay.String(), "--store.disk-cache-size=64MB")
	case "compact":
		return s.bin.Hindsight, append(ours, "--data-dir="+s.path(name), "--wait", "--wait-interval=3s", "--compact.cleanup-interval=5s",
			"--consistency-delay=0s", "--delete-delay="+deleteDelay.String(), "--compact.lease-duration="+leaseTime.String())
	}
	args = append(ours, "--query.enforce-tenancy", "--query.replica-label=replica", "--query.ring-replica-label=receive_replica",
		"--query.timeout=20s", "--deduplication.func=coverage")
	for _, n := range processes() {
		if s.lost(n) {
			continue
		}
		switch roleOf(n) {
		case "receive", "sidecar", "store":
			args = append(args, "--endpoint="+s.addr(n, portGRPC))
		}
	}
	return s.bin.Hindsight, args
}

// start starts a process; ready waits for it.
func (s *site) start(name string) error {
	if err := os.MkdirAll(s.path(name), 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", name, err)
	}
	bin, args := s.command(name)
	p, err := s.net.start(name, bin, args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[name], s.down[name] = p, false
	return nil
}

// proc is a process that was started.
func (s *site) proc(name string) *harness.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.procs[name]
}

// ending says that a fault ends the process.
func (s *site) ending(name string) *harness.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[name] = true
	return s.procs[name]
}

// setGone says that a replica of the pair will not come back.
func (s *site) setGone(replica string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = replica
}

// lost says whether a process will not come back.
func (s *site) lost(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, which, _ := strings.Cut(name, "-")
	return s.gone != "" && which == s.gone && (role == "prometheus" || role == "sidecar")
}

// spare ends ending for a process that is still there.
func (s *site) spare(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[name] = false
}

// ended returns a process that has ended though no fault did it.
func (s *site) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range processes() {
		if p := s.procs[name]; p != nil && !s.down[name] && !p.Running() {
			return fmt.Errorf("%s ended by itself; the end of its log:\n%s", name, p.Tail(30))
		}
	}
	return nil
}

// ready waits until a process answers.
func (s *site) ready(ctx context.Context, name string) error {
	var last error
	for ctx.Err() == nil {
		if err := s.ended(); err != nil {
			return err
		}
		if last = s.probe(ctx, name); last == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s is not ready in time (last: %w); the end of its log:\n%s", name, last, s.proc(name).Tail(30))
}

func (s *site) probe(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := s.get(ctx, s.url(name)+"/-/ready")
	return err
}

// get reads a page of a process.
func (s *site) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get a page: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %.200s", url, resp.Status, body)
	}
	return body, nil
}

// close ends everything.
func (s *site) close() error {
	var errs []error
	for _, p := range s.procs {
		p.Kill()
	}
	for _, l := range s.lis {
		errs = append(errs, l.Close())
	}
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	if s.net != nil {
		errs = append(errs, s.net.close())
	}
	for _, d := range s.disks {
		errs = append(errs, d.unmount())
	}
	return errors.Join(errs...)
}
