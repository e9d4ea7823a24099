// Package bench measures what taking samples in costs: the CPU time of server
// processes, as a ratio to a bare TSDB append with references in the same run.
package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// roleVariable makes the test binary a server of the named role.
const roleVariable = "HINDSIGHT_BENCH_ROLE"

const (
	perRequest = 2000
	interval   = 15_000 // ms between the samples of a series
)

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(roleVariable), ":")
	n, _ := strconv.Atoi(arg)
	switch role {
	case "":
		os.Exit(m.Run())
	case "bare":
		serveBare(n)
	case "receive":
		serveReceive(n)
	}
}

// usage is what a server process has used so far.
type usage struct {
	CPU    time.Duration
	RSS    int64
	Allocs uint64
	Heap   uint64
}

// server is a process of the test binary in a role.
type server struct {
	cmd   *exec.Cmd
	urls  []string
	stats string
	stdin io.WriteCloser
}

func startServer(t testing.TB, role string) *server {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	s := &server{cmd: exec.Command(exe)}
	s.cmd.Env = append(os.Environ(), roleVariable+"="+role, "HINDSIGHT_BENCH_DIR="+t.TempDir())
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.stdin, err = s.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	fields := strings.Fields(line)
	s.stats, s.urls = fields[0], fields[1:]
	return s
}

// stop lets the process end by closing its standard input.
func (s *server) stop(t testing.TB) {
	s.stdin.Close()
	require.NoError(t, s.cmd.Wait())
}

func (s *server) usage(t testing.TB) (u usage) {
	resp, err := http.Get(s.stats)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&u))
	return u
}

// profile saves a CPU profile of the server to the file that the environment
// names, if any; of allocations when its name begins so. The result waits for
// it.
func (s *server) profile(t testing.TB) (wait func()) {
	path := os.Getenv("HINDSIGHT_BENCH_PROFILE")
	if path == "" {
		return func() {}
	}
	kind := "profile?seconds=8"
	if strings.HasPrefix(path[strings.LastIndexByte(path, '/')+1:], "allocs") {
		kind = "heap?gc=1"
	}
	fetch := func(path string) {
		resp, err := http.Get(strings.TrimSuffix(s.stats, "usage") + "debug/pprof/" + kind)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if kind != "profile?seconds=8" { // what came before is the base
		fetch(path + ".base")
		return func() { fetch(path) }
	}
	var wg sync.WaitGroup
	wg.Go(func() { fetch(path) })
	return wg.Wait
}

// load makes requests for n series with 10 labels each, in the order in which
// the shards of a Prometheus would mix them.
type load struct {
	requests [][]byte // plain, with a timestamp to patch
	patches  [][]int
	header   map[string]string
}

func seriesLabels(i int) labels.Labels {
	return labels.FromStrings(
		"__name__", fmt.Sprintf("http_server_requests_seconds_%d", i%200),
		"cluster", "eu-west-1-production",
		"container", fmt.Sprintf("service-%d", i/200%40),
		"endpoint", "http-metrics",
		"instance", fmt.Sprintf("10.%d.%d.%d:8080", i/50000, i/200%250, i%200),
		"job", fmt.Sprintf("monitoring/service-%d", i/200%40),
		"method", []string{"GET", "POST", "PUT", "DELETE"}[i%4],
		"namespace", fmt.Sprintf("team-%d", i/200%20),
		"pod", fmt.Sprintf("service-%d-7d9f8b6c5d-%05d", i/200%40, i/200),
		"status", []string{"200", "404", "500"}[i%3],
	)
}

// placeholder is a timestamp whose varint has as many bytes as real ones.
const placeholder = 1_700_000_000_000

func newLoad(t testing.TB, series int) *load {
	return makeLoad(t, series, map[string]string{"Content-Type": "application/x-protobuf"}, version1)
}

// newLoad2 is the same in remote write 2.0.
func newLoad2(t testing.TB, series int) *load {
	return makeLoad(t, series, map[string]string{
		"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "X-Prometheus-Remote-Write-Version": "2.0.0",
	}, version2)
}

// message is a request that can be sent.
type message interface{ Marshal() ([]byte, error) }

func version1(series []int, value func() float64) message {
	req := &prompb.WriteRequest{}
	for _, i := range series {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: value(), Timestamp: placeholder}}}
		seriesLabels(i).Range(func(x labels.Label) {
			ts.Labels = append(ts.Labels, prompb.Label{Name: x.Name, Value: x.Value})
		})
		req.Timeseries = append(req.Timeseries, ts)
	}
	return req
}

func version2(series []int, value func() float64) message {
	req, symbols := &writev2.Request{}, writev2.NewSymbolTable()
	for _, i := range series {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: symbols.SymbolizeLabels(seriesLabels(i), nil),
			Samples:    []writev2.Sample{{Value: value(), Timestamp: placeholder}},
		})
	}
	req.Symbols = symbols.Symbols()
	return req
}

func makeLoad(t testing.TB, series int, header map[string]string, request func([]int, func() float64) message) *load {
	rnd := rand.New(rand.NewSource(1))
	order := rnd.Perm(series)
	mark := varint(placeholder)
	l := &load{header: header}
	for len(order) > 0 {
		n := min(perRequest, len(order))
		req := request(order[:n], func() float64 { return float64(rnd.Intn(100000)) })
		order = order[n:]
		raw, err := req.Marshal()
		require.NoError(t, err)
		var at []int
		for i := 0; ; i += len(mark) {
			j := bytes.Index(raw[i:], mark)
			if j < 0 {
				break
			}
			i += j
			at = append(at, i)
		}
		require.Len(t, at, n)
		l.requests, l.patches = append(l.requests, raw), append(l.patches, at)
	}
	return l
}

func varint(v int64) (b []byte) {
	for u := uint64(v); ; u >>= 7 {
		if u < 0x80 {
			return append(b, byte(u))
		}
		b = append(b, byte(u)|0x80)
	}
}

// round is one sample of every series.
func (l *load) round(ts int64) [][]byte {
	stamp := varint(ts)
	out := make([][]byte, len(l.requests))
	for i, raw := range l.requests {
		for _, at := range l.patches[i] {
			copy(raw[at:], stamp)
		}
		out[i] = s2.EncodeSnappy(nil, raw)
	}
	return out
}

// send sends the rounds, spread over the urls, with two requests at a time.
func (l *load) send(t testing.TB, urls []string, from int64, rounds int) {
	for r := range rounds {
		bodies := l.round(from + int64(r)*interval)
		next := make(chan int, len(bodies))
		for i := range bodies {
			next <- i
		}
		close(next)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for i := range next {
					resp, err := l.post(urls[i%len(urls)], bodies[i])
					if err != nil {
						t.Error(err)
						return
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode/100 != 2 {
						t.Errorf("status %d: %s", resp.StatusCode, text)
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
}

func (l *load) post(url string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodPost, url+"/api/v1/receive", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range l.header {
		req.Header.Set(k, v)
	}
	return http.DefaultClient.Do(req)
}

const (
	warmRounds = 4
	rounds     = 40
	series     = 100_000
)

// measure returns the server's CPU seconds and allocations per million samples
// in steady state.
func measure(t testing.TB, role string, l *load) (cpu, allocs float64) {
	s := startServer(t, role)
	defer s.stop(t)
	start := time.Now().Add(-time.Hour).UnixMilli()
	l.send(t, s.urls, start, warmRounds)
	time.Sleep(300 * time.Millisecond)
	before := s.usage(t)
	defer s.profile(t)()
	began := time.Now()
	l.send(t, s.urls, start+warmRounds*interval, rounds)
	time.Sleep(300 * time.Millisecond) // what is still on its way to peers counts
	after := s.usage(t)
	samples := float64(rounds * series)
	t.Logf("%s: %s a request with two at a time", role, time.Since(began)*2/time.Duration(rounds*len(l.requests)))
	return (after.CPU - before.CPU).Seconds() / samples * 1e6, float64(after.Allocs-before.Allocs) / samples
}

// bare returns the CPU seconds of a million appends with references, and the
// allocations of one.
func bare(t testing.TB) (cpu, allocs float64) {
	s := startServer(t, fmt.Sprintf("bare:%d", series))
	defer s.stop(t)
	resp, err := http.Post(s.urls[0]+"/append?rounds="+strconv.Itoa(warmRounds), "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	before := s.usage(t)
	resp, err = http.Post(s.urls[0]+"/append?rounds="+strconv.Itoa(rounds), "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	after := s.usage(t)
	const samples = rounds * series
	return (after.CPU - before.CPU).Seconds() / samples * 1e6, float64(after.Allocs-before.Allocs) / samples
}

// BenchmarkIngestOneNode reports the CPU of one node for a million samples.
func BenchmarkIngestOneNode(b *testing.B) {
	for b.Loop() {
		limit, least := bare(b)
		cpu, allocs := measure(b, "receive:1", newLoad(b, series))
		b.ReportMetric(limit, "bare-cpu-s/Msample")
		b.ReportMetric(cpu, "cpu-s/Msample")
		b.ReportMetric(cpu/limit, "ratio-to-bare")
		b.ReportMetric(max(allocs-least, 0), "allocs/sample-beyond-bare")
	}
}

// BenchmarkIngestVersion2 is BenchmarkIngestOneNode with remote write 2.0.
func BenchmarkIngestVersion2(b *testing.B) {
	for b.Loop() {
		limit, least := bare(b)
		cpu, allocs := measure(b, "receive:1", newLoad2(b, series))
		b.ReportMetric(limit, "bare-cpu-s/Msample")
		b.ReportMetric(cpu, "cpu-s/Msample")
		b.ReportMetric(cpu/limit, "ratio-to-bare")
		b.ReportMetric(max(allocs-least, 0), "allocs/sample-beyond-bare")
	}
}

// BenchmarkIngestThreeNodes reports the CPU of three nodes with replication 3.
func BenchmarkIngestThreeNodes(b *testing.B) {
	for b.Loop() {
		limit, least := bare(b)
		limit, least = 3*limit, 3*least
		cpu, allocs := measure(b, "receive:3", newLoad(b, series))
		b.ReportMetric(limit, "3-bare-cpu-s/Msample")
		b.ReportMetric(cpu, "cpu-s/Msample")
		b.ReportMetric(cpu/limit, "ratio-to-3-bare")
		b.ReportMetric(max(allocs-least, 0), "allocs/sample-beyond-bare")
	}
}

// BenchmarkMemory reports the resident memory for each of a million series.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		s := startServer(b, "receive:1")
		const many = 1_000_000
		l := newLoad(b, many)
		empty := s.usage(b).RSS
		l.send(b, s.urls, time.Now().Add(-time.Hour).UnixMilli(), 10)
		u := s.usage(b)
		b.ReportMetric(float64(u.RSS-empty)/many/1024, "RSS-KiB/series")
		b.ReportMetric(float64(u.Heap)/many/1024, "heap-KiB/series")
		s.stop(b)
	}
}

// BenchmarkManyTenants reports the resident memory for each of many small
// tenants with 200 series.
func BenchmarkManyTenants(b *testing.B) {
	for b.Loop() {
		s := startServer(b, "receive:1")
		const tenants, each = 300, 200
		l := newLoad(b, each)
		empty := s.usage(b).RSS
		for round := range int64(3) {
			body := l.round(time.Now().Add(-time.Hour).UnixMilli() + round*interval)[0]
			for i := range tenants {
				req, err := http.NewRequest(http.MethodPost, s.urls[0]+"/api/v1/receive", bytes.NewReader(body))
				require.NoError(b, err)
				req.Header.Set("X-Scope-OrgID", fmt.Sprintf("tenant-%04d", i))
				resp, err := http.DefaultClient.Do(req)
				require.NoError(b, err)
				resp.Body.Close()
				require.Equal(b, http.StatusOK, resp.StatusCode)
			}
		}
		s.profile(b)()
		u := s.usage(b)
		b.ReportMetric(float64(u.RSS-empty)/tenants/1024, "RSS-KiB/tenant")
		b.ReportMetric(float64(u.Heap)/tenants/1024, "heap-KiB/tenant")
		s.stop(b)
	}
}
