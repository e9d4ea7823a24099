package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// memory reads a line of /proc/PID/status, in bytes: VmRSS is the current memory of a
// process, VmHWM its peak.
func memory(t *testing.T, p *harness.Process, line string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	require.NoError(t, err)
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	t.Fatalf("no %s in the status of the process", line)
	return 0
}

// The replay of the log after a crash needs little more memory than the node had
// before, so that the same memory limit does not kill it again.
func TestReplayMemory(t *testing.T) {
	s := newSite(t)
	start := func() *harness.Process {
		p, err := harness.Start(s.Dir, "replay", bin.Hindsight, "receive", "--http-address="+s.Addr("receive-1"),
			"--grpc-address="+s.Addr("receive-1/grpc"), "--remote-write.address="+s.Addr("receive-1/write"),
			"--tsdb.path="+s.Path("replay"), `--label=receive_replica="1"`)
		require.NoError(t, err)
		require.NoError(t, harness.WaitHTTP(p, s.URL("receive-1")+"/-/ready", time.Minute))
		return p
	}
	p := start()
	const series, perRequest, samples = 100_000, 5000, 12
	w := harness.Writer{URL: "http://" + s.Addr("receive-1/write") + "/api/v1/receive"}
	now := time.Now().UnixMilli()
	for i := range samples {
		at := now - int64(samples-i)*15_000
		for from := 0; from < series; from += perRequest {
			var batch []prompb.TimeSeries
			for n := from; n < from+perRequest; n++ {
				id := strconv.Itoa(n)
				batch = append(batch, harness.TimeSeries([]prompb.Sample{{Timestamp: at, Value: float64(n + i)}},
					"__name__", "replay_total", "cluster", "eu", "instance", "10.0.0."+id[:1], "job", "shop", "path", "/api/"+id, "pod", "shop-"+id))
			}
			_, err := w.Write(batch)
			require.NoError(t, err)
		}
	}
	steady := memory(t, p, "VmHWM")
	p.Kill()
	p = start()
	peak := memory(t, p, "VmHWM")
	t.Logf("steady %d MiB, peak of the replay %d MiB, ratio %.2f", steady>>20, peak>>20, float64(peak)/float64(steady))
	require.LessOrEqual(t, float64(peak), 1.2*float64(steady))
	require.NoError(t, p.Stop(time.Minute))
}
