package dashboards

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// site is the processes of the benchmark.
type site struct {
	b     *testing.B
	dir   string
	bin   harness.Binaries
	start int64
	proxy *slowProxy

	store, query, prometheus *harness.Process
	queryURL, prometheusURL  string
	storeArgs, queryArgs     []string
	storeURL                 string
}

// slowProxy stands before the S3 server, adds a delay to each request and counts.
type slowProxy struct {
	http.Handler
	delay       atomic.Int64
	gets, heads atomic.Int64
	bytes       atomic.Int64
}

func (p *slowProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(time.Duration(p.delay.Load()))
	switch {
	case r.Method == http.MethodHead:
		p.heads.Add(1)
	case r.Method == http.MethodGet && !r.URL.Query().Has("list-type"):
		p.gets.Add(1)
	}
	p.Handler.ServeHTTP(&countingWriter{ResponseWriter: w, n: &p.bytes}, r)
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

// newSite makes the data, uploads it and starts everything. With
// HINDSIGHT_DASHBOARDS_DIR the data stays in that directory, for other runs.
func newSite(b *testing.B) *site {
	s := &site{b: b, dir: cmp.Or(os.Getenv("HINDSIGHT_DASHBOARDS_DIR"), b.TempDir()), start: begin()}
	made := s.restore()
	var err error
	s.bin, err = harness.Build(s.dir, os.Stderr, "-pgo=cmd/hindsight/hindsight.pgo") // as make build does
	require.NoError(b, err)
	ports, err := harness.Ports("127.0.0.1", 7)
	require.NoError(b, err)
	s3, proxy := ports[0], ports[1]
	s.startS3(s3, proxy)
	s.configure(proxy)
	if !made {
		s.upload()
		require.NoError(b, fillPrometheus(b, filepath.Join(s.dir, "prometheus"), s.start))
		require.NoError(b, os.WriteFile(filepath.Join(s.dir, "start"), []byte(fmt.Sprint(s.start)), 0o600))
	}
	s.proxy.delay.Store(int64(20 * time.Millisecond))
	s.startPrometheus(ports[2])
	common := []string{"--objstore.config-file=" + filepath.Join(s.dir, "bucket.yml")}
	s.storeURL, s.queryURL = "http://"+ports[3], "http://"+ports[5]
	s.storeArgs = append([]string{"store", "--data-dir=" + filepath.Join(s.dir, "store"), "--http-address=" + ports[3], "--grpc-address=" + ports[4]}, common...)
	s.queryArgs = []string{"query", "--http-address=" + ports[5], "--grpc-address=" + ports[6], "--endpoint=" + ports[4], "--query.replica-label=replica"}
	s.restart()
	return s
}

func (s *site) startS3(address, proxy string) {
	data := filepath.Join(s.dir, "s3")
	meta := filepath.Join(s.dir, "objects-meta")
	require.NoError(s.b, os.MkdirAll(filepath.Join(data, "bench"), 0o755))
	require.NoError(s.b, os.MkdirAll(meta, 0o755))
	p, err := harness.Start(s.dir, "s3", s.bin.S3, "--access", "bench", "--secret", "bench-secret", "--port", address, "--quiet",
		"--health", "/health", "posix", "--sidecar", meta, data)
	require.NoError(s.b, err)
	s.b.Cleanup(p.Kill)
	require.NoError(s.b, harness.WaitHTTP(p, "http://"+address+"/health", 30*time.Second))
	target, err := url.Parse("http://" + address)
	require.NoError(s.b, err)
	s.proxy = &slowProxy{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 200},
	}}
	server := &http.Server{Addr: proxy, Handler: s.proxy}
	go func() { _ = server.ListenAndServe() }()
	s.b.Cleanup(func() { _ = server.Close() })
}

// restore reports whether the directory has the data of an earlier run.
func (s *site) restore() bool {
	text, err := os.ReadFile(filepath.Join(s.dir, "start"))
	if err != nil {
		return false
	}
	s.start, err = strconv.ParseInt(string(text), 10, 64)
	require.NoError(s.b, err)
	return true
}

// configure writes the configuration of the bucket.
func (s *site) configure(address string) {
	config := fmt.Sprintf("type: S3\nconfig:\n  bucket: bench\n  endpoint: %s\n  region: us-east-1\n  access_key: bench\n  secret_key: bench-secret\n  insecure: true\n", address)
	require.NoError(s.b, os.WriteFile(filepath.Join(s.dir, "bucket.yml"), []byte(config), 0o600))
}

// upload fills the bucket.
func (s *site) upload() {
	config, err := os.ReadFile(filepath.Join(s.dir, "bucket.yml"))
	require.NoError(s.b, err)
	bkt, err := provider.Open(s.b.Context(), config, nil, prometheus.NewRegistry())
	require.NoError(s.b, err)
	require.NoError(s.b, fillBucket(s.b, filepath.Join(s.dir, "blocks"), s.start, func(dir string) error {
		if _, err := block.Upload(s.b.Context(), bkt, dir, block.UploadConfig{Columns: true}); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}))
	require.NoError(s.b, bkt.Close())
}

func (s *site) startPrometheus(address string) {
	dir := filepath.Join(s.dir, "prometheus")
	config := filepath.Join(s.dir, "prometheus.yml")
	require.NoError(s.b, os.WriteFile(config, nil, 0o600))
	p, err := harness.Start(s.dir, "prometheus", s.bin.Prometheus, "--config.file="+config, "--storage.tsdb.path="+dir, "--web.listen-address="+address,
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--storage.tsdb.retention.time=10y", "--log.level=warn")
	require.NoError(s.b, err)
	s.b.Cleanup(p.Kill)
	s.prometheus, s.prometheusURL = p, "http://"+address
	require.NoError(s.b, harness.WaitHTTP(p, s.prometheusURL+"/-/ready", time.Minute))
}

// restart starts the gateway, with an empty data directory, and the querier.
func (s *site) restart() {
	for _, p := range []*harness.Process{s.store, s.query} {
		if p != nil {
			require.NoError(s.b, p.Stop(30*time.Second))
		}
	}
	require.NoError(s.b, os.RemoveAll(filepath.Join(s.dir, "store")))
	var err error
	s.store, err = harness.Start(s.dir, "store", s.bin.Hindsight, s.storeArgs...)
	require.NoError(s.b, err)
	s.query, err = harness.Start(s.dir, "query", s.bin.Hindsight, s.queryArgs...)
	require.NoError(s.b, err)
	s.b.Cleanup(s.store.Kill)
	s.b.Cleanup(s.query.Kill)
	require.NoError(s.b, harness.WaitHTTP(s.store, s.storeURL+"/-/ready", time.Minute))
	require.NoError(s.b, harness.WaitHTTP(s.query, s.queryURL+"/-/ready", time.Minute))
	require.Eventually(s.b, func() bool {
		body, err := get(s.queryURL+"/api/v1/stores", nil)
		return err == nil && strings.Contains(body, "eu") && strings.Contains(body, "us")
	}, 30*time.Second, 50*time.Millisecond, "the querier sees the gateway")
}

// cpu is the CPU time that processes have used, in seconds.
func cpu(b *testing.B, processes ...*harness.Process) float64 {
	const ticks = 100 // of the kernel's interface, a second
	var sum float64
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		require.NoError(b, err)
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, f := range fields[11:13] { // utime and stime
			n, err := strconv.ParseFloat(f, 64)
			require.NoError(b, err)
			sum += n / ticks
		}
	}
	return sum
}

func get(base string, p url.Values) (string, error) {
	resp, err := http.Get(base + "?" + p.Encode())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}
