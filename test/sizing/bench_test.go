package sizing

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// site is a directory, the programs and free addresses.
type site struct {
	b    *testing.B
	dir  string
	bin  harness.Binaries
	host string
}

func newSite(b *testing.B) *site {
	b.Helper()
	s := &site{b: b, dir: b.TempDir(), host: harness.Host()}
	var err error
	s.bin, err = harness.Build(s.dir, os.Stderr)
	require.NoError(b, err)
	return s
}

// bucket is the flag of a bucket in a directory.
func (s *site) bucket() string { return "--objstore.config=" + s.config() }

func (s *site) config() string {
	return "type: FILESYSTEM\nconfig: {directory: " + filepath.Join(s.dir, "bucket") + "}\n"
}

// open opens a bucket in a directory.
func (s *site) open() bucket.Bucket {
	bkt, err := provider.Open(s.b.Context(), []byte(s.config()), nil, nil)
	require.NoError(s.b, err)
	s.b.Cleanup(func() { require.NoError(s.b, bkt.Close()) })
	return bkt
}

func (s *site) port() string {
	addr, err := harness.Port(s.host)
	require.NoError(s.b, err)
	return addr
}

// start runs a role until it is ready.
func (s *site) start(role string, args ...string) (p *harness.Process, base string) {
	addr := s.port()
	p, err := harness.Start(s.dir, role, s.bin.Hindsight, append([]string{role, "--http-address=" + addr}, args...)...)
	require.NoError(s.b, err)
	s.b.Cleanup(p.Kill)
	require.NoError(s.b, harness.WaitHTTP(p, "http://"+addr+"/-/ready", time.Minute))
	return p, "http://" + addr
}

func (s *site) resident(p *harness.Process) float64 {
	n, err := p.Resident()
	require.NoError(s.b, err)
	return float64(n)
}

// cpu is the CPU time of a process in seconds, 0 if it has ended.
func (s *site) cpu(p *harness.Process) float64 {
	const ticks = 100 // of the kernel's interface, a second
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	var sum float64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseFloat(f, 64)
		require.NoError(s.b, err)
		sum += n / ticks
	}
	return sum
}

// size adds up the files below a directory whose path contains the text.
func (s *site) size(dir, text string) (n float64) {
	require.NoError(s.b, filepath.WalkDir(filepath.Join(s.dir, dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, text) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += float64(info.Size())
		}
		return err
	}))
	return n
}

// metas reads each meta.json of a bucket.
func (s *site) metas(bkt bucket.Bucket) (out []*block.Meta) {
	var ids []ulid.ULID
	require.NoError(s.b, bkt.List(s.b.Context(), "", func(o bucket.Object) error {
		if id, ok := strings.CutSuffix(o.Name, "/meta.json"); ok {
			ids = append(ids, ulid.MustParse(id))
		}
		return nil
	}))
	for _, id := range ids {
		m, err := block.ReadMeta(s.b.Context(), bkt, id)
		require.NoError(s.b, err)
		out = append(out, m)
	}
	return out
}

// send writes rounds of samples of so many series, two requests at a time.
func send(b *testing.B, target string, series, rounds int) (samples float64) {
	b.Helper()
	const perRequest = 2000
	gens := make([]*generator, series)
	sets := make([]prompb.TimeSeries, series)
	mix := kinds()
	for i := range gens {
		gens[i] = newGenerator(i, mix[i/300%10])
		sets[i].Labels = prompb.FromLabels(labelSet(i), nil)
		sets[i].Samples = make([]prompb.Sample, 1)
	}
	first := time.Now().UnixMilli() - int64(rounds+1)*interval
	for r := range rounds {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for w := range 2 {
			wg.Go(func() {
				for from := w * perRequest; from < series; from += 2 * perRequest {
					part := sets[from:min(from+perRequest, series)]
					for i := range part {
						g := gens[from+i]
						part[i].Samples[0] = prompb.Sample{Timestamp: first + int64(r)*interval + g.jitter(), Value: g.next()}
					}
					if _, err := (harness.Writer{URL: target}).Write(part); err != nil {
						errs[w] = err
						return
					}
				}
			})
		}
		wg.Wait()
		require.NoError(b, errs[0])
		require.NoError(b, errs[1])
	}
	return float64(series * rounds)
}

// BenchmarkChunks encodes each kind of values with the encoder of Prometheus.
func BenchmarkChunks(b *testing.B) {
	for b.Loop() {
		for _, kind := range []string{"counter", "idle", "gauge", "float", "constant"} {
			const length = 100 * perChunk * interval
			_, bytes := encoded(1, kind, 0, length)
			b.ReportMetric(float64(bytes)/(length/interval), kind+"-bytes/sample")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkReceive fills receivers with 2 h 50 min of 15,000 and of 45,000 series, which is
// just before their heads become blocks, and writes them to buckets afterwards. The memory of
// a series is the difference, as a receiver without series needs memory too.
func BenchmarkReceive(b *testing.B) {
	const few, many = 15_000, 45_000
	for b.Loop() {
		small := newSite(b).receive(few)
		s := newSite(b)
		large := s.receive(many)
		b.ReportMetric((large-small)/(many-few), "RSS-bytes/series")
		b.ReportMetric((small-few*(large-small)/(many-few))/(1<<20), "fixed-MiB")
		s.gateway()
	}
	b.ReportMetric(0, "ns/op")
}

// receive returns the peak of the memory of a receiver of so many series, and reports the
// bytes and the CPU of a sample.
func (s *site) receive(series int) (peak float64) {
	const rounds = 680
	b, write := s.b, s.port()
	p, base := s.start("receive", "--grpc-address="+s.port(), "--remote-write.address="+write, "--tsdb.path="+filepath.Join(s.dir, "data"), s.bucket())
	cpu := s.cpu(p)
	samples := send(b, "http://"+write+"/api/v1/receive", series, rounds)
	bytes, err := p.Peak()
	require.NoError(b, err)
	b.ReportMetric((s.cpu(p)-cpu)/samples*1e6, "cpu-s/Msample")
	b.ReportMetric(s.size("data", "/wal/")/samples, "log-bytes/sample")
	b.ReportMetric(s.size("data", "/chunks_head/")/samples, "head-chunk-bytes/sample")
	resp, err := http.Post(base+"/-/flush", "", nil)
	require.NoError(b, err)
	resp.Body.Close()
	require.Equal(b, http.StatusOK, resp.StatusCode)
	var total, entries float64
	for _, m := range s.metas(s.open()) {
		total += float64(m.Stats.NumSamples)
		entries += float64(m.Stats.NumSeries)
	}
	require.Equal(b, samples, total)
	b.ReportMetric(s.size("bucket", "/chunks/")/samples, "block-chunk-bytes/sample")
	b.ReportMetric(s.size("bucket", "/index")/entries, "block-index-bytes/series")
	return float64(bytes)
}

// gateway measures the index headers of the blocks of a receiver.
func (s *site) gateway() {
	grpc := s.port()
	s.start("store", "--grpc-address="+grpc, "--data-dir="+filepath.Join(s.dir, "store"), s.bucket())
	_, base := s.start("query", "--grpc-address="+s.port(), "--endpoint="+grpc)
	entries := 0.0
	for _, m := range s.metas(s.open()) {
		entries += float64(m.Stats.NumSeries)
	}
	api := harness.API{Base: base}
	require.Eventually(s.b, func() bool {
		got, err := api.Instant(`count(last_over_time({job="application"}[1h]))`, time.Now().Add(-30*time.Minute))
		return err == nil && len(got.Series) == 1
	}, time.Minute, 100*time.Millisecond)
	_, err := api.Instant(`count(last_over_time({job="application"}[3h]))`, time.Now())
	require.NoError(s.b, err)
	s.b.ReportMetric(s.size("store", "/index-headers/")/entries, "index-header-bytes/series")
}

// BenchmarkBucket downsamples a block of 14 days with 500 series, as the compactor does it.
func BenchmarkBucket(b *testing.B) {
	const series, days = 500, 14
	for b.Loop() {
		s := newSite(b)
		bkt := s.open()
		m := &block.Meta{}
		m.ULID, m.MinTime = blocktest.ID("raw"), 0
		m.MaxTime = days * 24 * time.Hour.Milliseconds()
		m.Thanos.Labels = map[string]string{"cluster": "eu"}
		var list []blocktest.Series
		mix := kinds()
		for i := range series {
			one, _ := encoded(i, mix[i%10], m.MinTime, m.MaxTime)
			list = append(list, one)
		}
		dir := filepath.Join(b.TempDir(), m.ULID.String())
		require.NoError(b, blocktest.Write(b.Context(), dir, m, list))
		list = nil
		_, err := block.Upload(b.Context(), bkt, dir, block.UploadConfig{})
		require.NoError(b, err)
		p, err := harness.Start(s.dir, "compact", s.bin.Hindsight, "compact", "--data-dir="+filepath.Join(s.dir, "compact"), "--http-address="+s.port(),
			"--consistency-delay=0s", s.bucket())
		require.NoError(b, err)
		var peak int64
		var cpu float64
		for p.Running() {
			if n, err := p.Peak(); err == nil {
				peak, cpu = n, max(cpu, s.cpu(p))
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		b.ReportMetric(cpu*1e6/float64(series*days*24*time.Hour.Milliseconds()/interval), "downsampling-cpu-s/Msample")
		code, err := p.Wait(time.Minute)
		require.NoError(b, err)
		require.Zero(b, code, p.Tail(20))
		seen := map[int64]bool{}
		for _, m := range s.metas(bkt) {
			id, res := m.ULID.String(), m.Thanos.Downsample.Resolution
			name, unit, n := "raw", "sample", float64(m.Stats.NumSamples)
			if res > 0 {
				name, unit = (time.Duration(res) * time.Millisecond).String(), "window"
				n = series * float64(days*24*time.Hour.Milliseconds()/res)
			}
			seen[res] = true
			b.ReportMetric(s.size("bucket", id+"/chunks/")/n, name+"-chunk-bytes/"+unit)
			b.ReportMetric(s.size("bucket", id+"/index")/series/days, name+"-index-bytes/series/day")
		}
		require.Len(b, seen, 3, "raw, 5m and 1h")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGatewayBlocks compares the memory of a gateway without blocks and with 2,000.
func BenchmarkGatewayBlocks(b *testing.B) {
	const blocks = 2000
	for b.Loop() {
		s := newSite(b)
		p, _ := s.start("store", "--grpc-address="+s.port(), "--data-dir="+filepath.Join(s.dir, "store"), s.bucket())
		empty := s.resident(p)
		require.NoError(b, p.Stop(30*time.Second))
		fill(b, s.open(), blocks)
		p, base := s.start("store", "--grpc-address="+s.port(), "--data-dir="+filepath.Join(s.dir, "store"), s.bucket())
		require.Contains(b, metric(b, base, "hindsight_blocklist_blocks"), strconv.Itoa(blocks))
		b.ReportMetric(empty/(1<<20), "empty-MiB")
		b.ReportMetric((s.resident(p)-empty)/blocks, "RSS-bytes/block")
	}
	b.ReportMetric(0, "ns/op")
}

func fill(b *testing.B, bkt bucket.Bucket, blocks int) {
	one, _ := encoded(1, "counter", 0, 2*time.Hour.Milliseconds())
	for n := range blocks {
		m := &block.Meta{}
		m.ULID, m.MinTime = blocktest.ID(fmt.Sprint(n)), int64(n)*2*time.Hour.Milliseconds()
		m.MaxTime = m.MinTime + 2*time.Hour.Milliseconds()
		m.Thanos.Labels = map[string]string{"cluster": "eu", "replica": "a"}
		shifted := one
		shifted.Chunks = nil
		for _, c := range one.Chunks {
			c.MinTime, c.MaxTime = c.MinTime+m.MinTime, c.MaxTime+m.MinTime
			shifted.Chunks = append(shifted.Chunks, c)
		}
		dir := filepath.Join(b.TempDir(), m.ULID.String())
		require.NoError(b, blocktest.Write(context.Background(), dir, m, []blocktest.Series{shifted}))
		_, err := block.Upload(b.Context(), bkt, dir, block.UploadConfig{})
		require.NoError(b, err)
		require.NoError(b, os.RemoveAll(dir))
	}
}

// metric returns the lines of a metric.
func metric(b *testing.B, base, name string) string {
	resp, err := http.Get(base + "/metrics")
	require.NoError(b, err)
	defer resp.Body.Close()
	var out strings.Builder
	buf := make([]byte, 1<<16)
	for {
		n, err := resp.Body.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, name) {
			return line
		}
	}
	return ""
}

// BenchmarkSidecar runs sidecars beside Prometheus with two numbers of series, as only the
// difference tells what a series needs. They ship a log and a block.
func BenchmarkSidecar(b *testing.B) {
	const few, many = 20_000, 200_000
	for b.Loop() {
		small, large := newSite(b).sidecar(few), newSite(b).sidecar(many)
		b.ReportMetric((large-small)/(many-few), "peak-RSS-bytes/series")
		b.ReportMetric((small-few*(large-small)/(many-few))/(1<<20), "fixed-MiB")
	}
	b.ReportMetric(0, "ns/op")
}

// sidecar returns the peak of the memory of a sidecar that ships the log of ten minutes and
// a block of two hours with so many series.
func (s *site) sidecar(series int) (peak float64) {
	const rounds = 40
	b, addr, config := s.b, s.port(), filepath.Join(s.dir, "prometheus.yml")
	require.NoError(b, os.WriteFile(config, []byte("global: {external_labels: {cluster: eu, replica: a}}\n"), 0o600))
	data := filepath.Join(s.dir, "prometheus")
	s.localBlock(data, series)
	prom, err := harness.Start(s.dir, "prometheus", s.bin.Prometheus, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address="+addr,
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h", "--web.enable-remote-write-receiver", "--log.level=warn")
	require.NoError(b, err)
	b.Cleanup(prom.Kill)
	require.NoError(b, harness.WaitHTTP(prom, "http://"+addr+"/-/ready", time.Minute))
	p, base := s.start("sidecar", "--grpc-address="+s.port(), "--prometheus.url=http://"+addr, "--tsdb.path="+data, "--shipper.head-interval=1s", s.bucket())
	send(b, (&url.URL{Scheme: "http", Host: addr, Path: "/api/v1/write"}).String(), series, rounds)
	sent := float64(time.Now().Unix())
	require.Eventually(b, func() bool {
		return value(b, base, "hindsight_sidecar_head_last_ship_success_time_seconds") > sent &&
			value(b, base, "hindsight_sidecar_head_unshipped_bytes") == 0 && value(b, base, "hindsight_shipper_uploads_total") == 1
	}, 2*time.Minute, 200*time.Millisecond)
	require.Zero(b, value(b, base, "hindsight_shipper_columns_failures_total"))
	n, err := p.Peak()
	require.NoError(b, err)
	return float64(n)
}

// localBlock writes a block of two hours to the directory of a Prometheus.
func (s *site) localBlock(data string, series int) {
	m := &block.Meta{}
	hour := time.Hour.Milliseconds()
	m.ULID, m.MinTime = blocktest.ID("local"), (time.Now().UnixMilli()/hour/2-2)*2*hour
	m.MaxTime = m.MinTime + 2*hour
	mix := kinds()
	var list []blocktest.Series
	for i := range series {
		one, _ := encoded(i, mix[i/300%10], m.MinTime, m.MaxTime)
		list = append(list, one)
	}
	require.NoError(s.b, blocktest.Write(s.b.Context(), filepath.Join(data, m.ULID.String()), m, list))
}

// value is the value of the first series of a metric.
func value(b *testing.B, base, name string) float64 {
	fields := strings.Fields(metric(b, base, name))
	require.NotEmpty(b, fields, name)
	v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
	require.NoError(b, err)
	return v
}
